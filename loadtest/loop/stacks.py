"""Stacks that a recording saw, how often, and which functions they spent their time in."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

#: One stack as the field writes it: frames from the outermost, separated by
#: semicolons, each "function (file:line)".
Stacks = Counter[str]

#: A thread that waits here has nothing to do; its samples cost no CPU. The innermost
#: frames are often libc's without a name, so a few are looked at.
WAITS = ("epoll_wait", "epoll_pwait", "sem_", "pthread_cond", "futex", "PyThread_acquire_lock", "take_gil")
INNERMOST = 4

#: Of native stacks: where ours begin, and symbols that py-spy names wrongly.
EVENT_LOOP = ("Runner.run (", "run_until_complete", "run_forever", "Loop__run", "Loop__Loop__run", "uv_run")
MISREAD = ("Py_DECREF", "Py_XDECREF")


def from_speedscope(file: Path) -> Stacks:
    """The stacks of py-spy's speedscope file, waiting ones left out."""
    content = json.loads(file.read_text())
    frames = [_frame(frame) for frame in content["shared"]["frames"]]
    stacks: Stacks = Counter()
    for profile in content["profiles"]:
        for sample in profile["samples"]:
            names = [frames[i] for i in sample]
            if not any(name.startswith(WAITS) for name in names[-INNERMOST:]):
                stacks[";".join(_merged(names))] += 1
    return stacks


def write(stacks: Mapping[str, int], file: Path) -> None:
    """Write folded stacks, one a line with its count, as flamegraph.pl and inferno read them."""
    file.write_text("".join(f"{stack} {count}\n" for stack, count in sorted(stacks.items())))


def read(file: Path) -> Stacks:
    """Read folded stacks."""
    stacks: Stacks = Counter()
    for line in file.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        stacks[stack] += int(count)
    return stacks


def by_function(stacks: Mapping[str, int]) -> Counter[str]:
    """Samples by the innermost Python function, which answers for the C code it calls."""
    functions: Counter[str] = Counter()
    for stack, count in stacks.items():
        python = [frame for frame in stack.split(";") if ".py" in frame]
        functions[python[-1] if python else stack.rpartition(";")[2]] += count
    return functions


def from_event_loop(stacks: Mapping[str, float]) -> dict[str, float]:
    """Stacks without what lies around the event loop, and without py-spy's misread frames."""
    shorter: dict[str, float] = {}
    for stack, value in stacks.items():
        frames = [frame for frame in stack.split(";") if not frame.startswith(MISREAD)]
        inside = [i for i, frame in enumerate(frames) if frame.startswith(EVENT_LOOP)]
        if inside:
            frames = ["event loop", *frames[inside[-1] + 1 :]]
        name = ";".join(frames)
        shorter[name] = shorter.get(name, 0.0) + value
    return shorter


def python_frames(stacks: Mapping[str, float]) -> dict[str, float]:
    """Stacks without C frames; a stack without any Python frame is named by the innermost library.

    What surrounds our code is left as it is: "event loop" is a name of `from_event_loop`.
    """
    shorter: dict[str, float] = {}
    for stack, value in stacks.items():
        frames = stack.split(";")
        python = [frame for frame in frames if ".py" in frame or frame == "event loop"]
        name = ";".join(python or frames[-1:])
        shorter[name] = shorter.get(name, 0.0) + value
    return shorter


def tree(stacks: Mapping[str, float], deltas: Mapping[str, float]) -> dict[str, Any]:
    """Stacks as nested frames.

    `value` is a frame's own and its callees' together, `delta` likewise. Frames that
    occur in `deltas` alone have no width and are left out.
    """
    root: dict[str, Any] = {"name": "all", "value": 0.0, "delta": 0.0, "children": {}}
    for stack, value in stacks.items():
        for node in _path(root, stack.split(";")):
            node["value"] += value
            node["delta"] += deltas.get(stack, 0.0)
    for stack in deltas.keys() - stacks.keys():
        for node in _known_path(root, stack.split(";")):
            node["delta"] += deltas[stack]
    return _listed(root)


def _frame(frame: Mapping[str, Any]) -> str:
    """A frame without its line, so that an edit above a function does not make it another one."""
    file = Path(frame.get("file") or "").name
    name = frame["name"]
    if name.startswith("0x"):  # C code without symbols: the library is all that is known
        return f"[{file.partition('.')[0]}]"
    return f"{name} ({_short(frame.get('file') or '')})" if file else name


def _short(file: str) -> str:
    """The last folder and the file."""
    return "/".join(Path(file).parts[-2:])


def _merged(names: list[str]) -> list[str]:
    """Neighbours of one name as one frame: unnamed C code comes in runs."""
    return [name for i, name in enumerate(names) if i == 0 or name != names[i - 1]]


def _path(root: dict[str, Any], frames: list[str]) -> Iterator[dict[str, Any]]:
    yield root
    node = root
    for frame in frames:
        fresh = {"name": frame, "value": 0.0, "delta": 0.0, "children": {}}
        node = node["children"].setdefault(frame, fresh)
        yield node


def _known_path(root: dict[str, Any], frames: list[str]) -> Iterator[dict[str, Any]]:
    yield root
    node = root
    for frame in frames:
        if frame not in node["children"]:
            return
        node = node["children"][frame]
        yield node


def _listed(node: dict[str, Any]) -> dict[str, Any]:
    return node | {"children": [_listed(child) for child in node["children"].values()]}
