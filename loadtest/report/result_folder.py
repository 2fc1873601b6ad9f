"""`loadtest/results/NAME/`: what a run leaves behind."""

import argparse
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from loadtest.harness.subject import LoadTestError

RESULTS = Path(__file__).parents[1] / "results"
SUMMARY_FILE = "summary.json"
INDEX_FILE = "index.html"
FLAME_GRAPH_FILE = "flamegraph.svg"
SPEEDSCOPE_FILE = "speedscope.json"
STACKS_FILE = "stacks.folded"
TIMELINE_FILE = "timeline.png"
#: Present from a run's first moment, so that its folder may be replaced by the next of its name.
MARKER_FILE = ".loadtest"


def add_results(parser: argparse.ArgumentParser) -> None:
    """The option that says where results are kept."""
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="where results are kept [loadtest/results]",
    )


def new_folder(name: str | None, results: Path = RESULTS) -> Path:
    """An empty folder for a run; an earlier run of that name is replaced.

    Raises `LoadTestError` if the folder holds something else.
    """
    name = name or datetime.now().strftime("%Y-%m-%d-%H%M%S")
    if Path(name).name != name or name in (".", ".."):
        raise LoadTestError(f"expected a plain folder name, got {name!r}: use letters, digits and dashes")
    folder = results / name
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARKER_FILE).exists():
            raise LoadTestError(f"expected {folder} to be new or an earlier run, got a folder of other files")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER_FILE).touch()
    return folder


def find(name: str, results: Path = RESULTS) -> Path:
    """The folder of a run, by name or path; raises `LoadTestError` if there is none."""
    for folder in (results / name, Path(name)):
        if (folder / SUMMARY_FILE).exists():
            return folder
    known = sorted(path.parent.name for path in results.glob(f"*/{SUMMARY_FILE}"))
    raise LoadTestError(f"expected the name of a run, got {name!r}: there are {', '.join(known) or 'none'}")


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a run."""
    summary: dict[str, Any] = orjson.loads((folder / SUMMARY_FILE).read_bytes())
    return summary


def write_summary(summary: dict[str, Any], folder: Path) -> None:
    """Write a run's summary."""
    content = orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
    (folder / SUMMARY_FILE).write_bytes(content + b"\n")
