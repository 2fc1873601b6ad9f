"""`python -m export.unguarded`: the export itself, that `python -m export` starts in a process of its own."""

import gc
import sys
from collections.abc import Sequence

from export.arguments import parse
from export.errors import ExportRefused
from export.guard import limit_memory
from server.cli import installed, run, sentence
from server.errors import HotrowError


def main(arguments: Sequence[str]) -> int:
    """Write a bundle or say in one sentence why there is none; the exit code."""
    request = parse(arguments)
    try:
        with installed():
            from export.command import export  # heavy libraries, loaded when they are needed

            export(request)
    except HotrowError as error:
        return _refused(error)
    except MemoryError:
        return _refused(
            ExportRefused(
                "expected a model that fits into memory, got a larger one: export it on a machine with more"
            )
        )
    except Exception as error:  # five libraries read what strangers made
        if sys.flags.dev_mode:
            raise
        return _refused(_unexpected(error))
    return 0


def _refused(error: HotrowError) -> int:
    print(sentence(error), file=sys.stderr)
    return 1


def _unexpected(error: Exception) -> ExportRefused:
    words = " ".join(str(error).split())[:300]
    return ExportRefused(
        f"expected a model that the libraries here can read and score, got {type(error).__name__}: {words}; "
        "`python -X dev -m export …` shows where"
    )


if __name__ == "__main__":
    # Hundreds of thousands of nodes are made and stay: looking through them for garbage again and
    # again took a third of the export of a default forest, and found nothing.
    gc.set_threshold(100_000, 50, 100)
    limit_memory()
    run(main)
