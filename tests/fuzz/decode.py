"""`python -m tests.fuzz.decode [libFuzzer options]`: Atheris on the decoders, until something breaks."""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["server", "tests"]):
    from tests.fuzz.targets import check, seeds


def main() -> None:
    """Fuzz from the seeds; ends by libFuzzer's own options."""
    with tempfile.TemporaryDirectory(prefix="hotrow-fuzz-") as corpus:
        for i, seed in enumerate(seeds()):
            (Path(corpus) / f"seed-{i}").write_bytes(seed)
        atheris.Setup([*sys.argv, corpus], check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
