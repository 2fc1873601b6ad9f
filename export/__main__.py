"""`python -m export SOURCE --out DIR`: a bundle from a trained model, tested equal to it."""

import os
from collections.abc import Sequence

# Before any library reads them: one thread is enough here, and no telemetry is sent.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from export.arguments import parse
from export.guard import guarded
from server.cli import run


def main(arguments: Sequence[str]) -> int:
    """Run the command in a process of its own; its exit code."""
    parse(arguments)  # wrong usage ends here, before anything is started
    return guarded("export.unguarded", arguments)


if __name__ == "__main__":
    run(main)
