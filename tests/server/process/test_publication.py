"""What a publication that is interrupted leaves, wherever the interrupt comes."""

import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from server.errors import BundleError
from server.model.arms import SPLIT_FILE, TrafficSplit, challenger_folder
from server.model.bundle import Bundle
from server.publish.challenge import challenge, promote, withdraw
from server.publish.publication import Publication, publish, roll_back, take
from tests.support.bundles import rewritten

ROOT = Path(__file__).parents[3]
WATCHED = {
    str(ROOT / "server" / name)
    for name in ("publish/publication.py", "publish/challenge.py", "model/exchange.py", "durable.py")
}
#: Between two calls that are interrupted; with 1 it takes half a minute.
STEP = 7


@pytest.fixture(autouse=True)
def _interrupts() -> Iterator[None]:
    """Of a suite that runs in the background they are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def versions(three: Path, tmp_path: Path) -> list[Path]:
    return [rewritten(three, tmp_path / f"v{v}", version=v) for v in "1234"]


@pytest.fixture
def served(versions: list[Path], tmp_path: Path) -> Path:
    """Version 2, which can be rolled back to 1, with 3 as its challenger."""
    served = Path(shutil.copytree(versions[0], tmp_path / "served"))
    publish(versions[1], served).keep()
    challenge(versions[2], served, TrafficSplit(10.0)).keep()
    return served


def state(served: Path) -> tuple[str, str, bytes]:
    """What a server that starts would serve."""
    folder = challenger_folder(served)
    split = folder / SPLIT_FILE
    return Bundle.load(served).version, _version(folder), split.read_bytes() if split.exists() else b""


def _version(folder: Path) -> str:
    try:
        return Bundle.load(folder).version
    except BundleError:
        return ""


def interrupted(action: Callable[[], object], at: int) -> tuple[bool, bool]:
    """Do something, with a signal at a call of what publishes: whether one came, and was raised."""
    calls = 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal calls
        if event in ("call", "c_call") and frame.f_code.co_filename in WATCHED:
            calls += 1
            if calls == at:
                signal.raise_signal(signal.SIGINT)

    sys.setprofile(count)
    try:
        action()
    except KeyboardInterrupt:
        return calls >= at, True
    finally:
        sys.setprofile(None)
    return calls >= at, False


@pytest.mark.parametrize("what", ["publish", "roll_back", "challenge", "share", "promote", "withdraw"])
def test_interrupt_at_any_call_leaves_what_was_served(
    what: str, versions: list[Path], served: Path, tmp_path: Path
) -> None:
    actions: dict[str, Callable[[Path], Publication]] = {
        "publish": lambda folder: publish(versions[3], folder),
        "roll_back": roll_back,
        "challenge": lambda folder: challenge(versions[3], folder, TrafficSplit(20.0)),
        "share": lambda folder: challenge(None, folder, None),
        "promote": promote,
        "withdraw": withdraw,
    }
    before, make = state(served), actions[what]
    at, came = 1, True
    while came:
        folder = tmp_path / "work" / "served"
        for each in served.parent.glob("*served*"):
            shutil.copytree(each, folder.parent / each.name)
        accepted: list[Publication] = []
        came, was_raised = interrupted(lambda: take(lambda: make(folder), accepted.append), at)  # noqa: B023
        assert was_raised == came
        assert (state(folder) != before) == bool(accepted), at
        if not accepted:
            make(folder).undo()  # and nothing that is left stands in its way
            assert state(folder) == before, at
        shutil.rmtree(folder.parent)
        at += STEP
