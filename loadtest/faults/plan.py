"""Every fault: what is done, and what must hold."""

from collections.abc import Callable
from typing import NamedTuple

from loadtest.faults import (
    clock,
    connections,
    crash_points,
    disk,
    inputs,
    models,
    network,
    overload,
    page,
    stops,
    two_ways,
    workers,
    worst,
)
from loadtest.faults.outcome import Outcome
from loadtest.faults.scene import Scene


class Fault(NamedTuple):
    """One fault; `key` is its number in the plan."""

    key: str
    title: str
    how: str
    to_reach: str
    run: Callable[[Scene, Outcome], None]


PLAN = (
    Fault(
        "F1",
        "a worker is killed",
        "SIGKILL to one of 2 workers every 3 s, 10 times, the log async and strict",
        "only requests in flight there fail; ready again within 5 s; lost: 100 ms of answers, 0 if strict",
        workers.killed,
    ),
    Fault(
        "F2",
        "the server is told to stop",
        "20 times SIGTERM under our clients, wrk and hey; 1 and 2 workers",
        "0 resets, 0 lost, 0 wrong, exit 0 within 5 s",
        stops.sigterm,
    ),
    Fault(
        "F3",
        "the server is told to reload",
        "20 times SIGHUP under our clients, wrk and hey; 2 workers",
        "0 answers but 200, 0 resets, 0 lost, 0 wrong",
        stops.sighup,
    ),
    Fault(
        "F4",
        "a stop amid half-sent requests",
        "100 requests without their end, then SIGTERM",
        "exit within the limit and 2 s; other clients lose nothing",
        stops.half_sent,
    ),
    Fault(
        "F5",
        "a worker stands still",
        "SIGSTOP",
        "replaced within 10 s; only its own connections fail",
        workers.stopped,
    ),
    Fault(
        "F6",
        "the supervisor is killed",
        "SIGKILL to the parent of the workers",
        "no orphan after 2 s; a restart binds at once",
        stops.supervisor_killed,
    ),
    Fault(
        "F7",
        "workers die at every start",
        "SIGKILL to each worker 0.2 s after its start",
        "at most 8 starts in 60 s, then an exit code that is not 0",
        workers.crash_loop,
    ),
    Fault(
        "F8",
        "the disk is full",
        "the log on a tmpfs of 1 MB, under a limit of file sizes, and on /dev/full; then room again",
        "every request answered, no half line, drops counted exactly, written again within 5 s",
        disk.full,
    ),
    Fault(
        "F9",
        "the disk fails, or is slow",
        "strace makes writes fail with EIO, and each sync take 200 ms",
        "nothing lost (strict: 503 meanwhile); p99 as without",
        disk.broken,
    ),
    Fault(
        "F10",
        "no room, and junk, where metrics could live",
        "a full TMPDIR of 64 KB with empty and random *.db files; workers killed",
        "/metrics at every scrape, no worker dead by itself",
        disk.counters_elsewhere,
    ),
    Fault(
        "F11",
        "a damaged model",
        "500 folders truncated, flipped, zeroed, emptied, linked, 10 GB sparse; at starts and at reloads",
        "none served whose hashes do not agree, exit 3 with one sentence, the old model stays, only 200",
        models.damaged,
    ),
    Fault(
        "F12",
        "a storm of reloads",
        "two models in turn: 100 reloads of 1 worker, 20 of 2, by publication and SIGHUP",
        "0 answers but 200, each by the model it names, at most 20 MB more",
        models.reload_storm,
    ),
    Fault(
        "F13",
        "a crash at any point of writing the log",
        "SIGKILL, ENOSPC and EIO at each system call of a start and of rotations",
        "every accepted line there once, no other, every start succeeds",
        crash_points.crash_points,
    ),
    Fault(
        "F14",
        "the clock is set",
        "libfaketime: hours, days, to 1970 and to 2038, with small log files",
        "0 failed, 0 lost, no negative latency, no file overwritten, no deadline moved",
        clock.jumps,
    ),
    Fault(
        "F15",
        "slow clients",
        "1,000 connections of slow headers, bodies and reading by slowhttptest; 50 readers of nothing",
        "service available throughout, 0 other requests failed, their p99 at most a fifth higher",
        connections.slow,
    ),
    Fault(
        "F16",
        "10,000 connections",
        "each answered once, then idle, 1 % active; then all reset at once",
        "0 active requests failed, at most 600 MB, memory back to the base",
        connections.idle,
    ),
    Fault(
        "F17",
        "no more file descriptors",
        "200 connections to a server with 64",
        "connected clients are served, the processor idles, new ones are served within 2 s afterwards",
        connections.files_exhausted,
    ),
    Fault(
        "F18",
        "no more memory",
        "RLIMIT_AS 16 MB above what the workers have, and batches of 10,000 rows",
        "200, 413, 503, a closed connection, or a worker replaced; 0 wrong, 0 lines twice",
        inputs.memory_squeezed,
    ),
    Fault(
        "F19",
        "oversize input",
        "bodies, chunks, depths, bombs, heads and paths beyond every limit",
        "the listed status, at most 10 MB kept, no worker dead",
        inputs.oversize,
    ),
    Fault(
        "F20",
        "nonsense",
        "20,000 random and mutated byte strings on the socket; Atheris on the decoders",
        "0 crashes, 0 5xx, 0 hangs, 0 disagreements of decoders and judge",
        inputs.nonsense,
    ),
    Fault(
        "F21",
        "a bad network",
        "a relay that delays by 50 ms, cuts into pieces and resets; netem with loss where the kernel has it",
        "0 wrong, 0 lost, only connections that the network reset fail, none stuck afterwards",
        network.bad_network,
    ),
    Fault(
        "F22",
        "clients that leave",
        "10,000 amid a request, by FIN and RST; 1,000 before its answer",
        "descriptors and memory back to the base; others lose nothing",
        connections.disconnects,
    ),
    Fault(
        "F23",
        "overload",
        "3 and 10 times the capacity in batches, then up to 1,000 connections of single rows",
        "goodput at least 90 % (85 %) of the peak, only 200 and 503, at most 50 MB more, normal within 2 s",
        overload.overload,
    ),
    Fault(
        "F24",
        "the page and the explainer fail",
        "the page, beside the API, flooded, hung, killed; the explainer killed",
        "0 failed; p99 at most 5 % higher",
        page.page,
    ),
    Fault(
        "F26",
        "the worst single requests",
        "each kind of request that once took a worker's time or memory, as long as its route takes",
        "the listed status, at most 64 MB more, others wait at most 0.1 s (1 MiB) or 1 s (16 MiB)",
        worst.one_by_one,
    ),
    Fault(
        "F27",
        "the worst requests from many",
        "the same to batches and tensors from 64 senders for 60 s, one worker in a cgroup of 512 MiB",
        "200, 400, 413, 422 or 503 to each, the worker alive, its memory within the limit",
        worst.from_many,
    ),
    Fault(
        "F28",
        "two ways to read a request",
        "20,000 connections of odd heads, bodies and pieces to the fast path and to the ASGI path",
        "0 connections answered differently",
        two_ways.two_ways,
    ),
)
