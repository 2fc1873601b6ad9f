"""Every fault: what is done, and what must hold."""

from collections.abc import Callable
from typing import NamedTuple

from loadtest.faults import clock, crash_points, disk, stops, workers
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
)
