"""Atheris on the decoders, in the environment that `make fuzz` sets up for it."""

import os
import re
import subprocess
from pathlib import Path

PYTHON = Path(".venv-fuzz/bin/python")
#: An input that takes longer is a hang to libFuzzer.
HANG_SECONDS, MEMORY_MB = 2, 1024


def fuzz_decoders(seconds: int, folder: Path) -> tuple[str, list[str]]:
    """Fuzz for so long: how much was tried, and the crash, hang or disagreement of decoders that ended it."""
    if not PYTHON.exists():
        return "not installed: `make fuzz` installs it", []
    done = subprocess.run(
        [
            PYTHON, "-m", "tests.fuzz.decode", f"-max_total_time={seconds}", f"-timeout={HANG_SECONDS}",
            f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={folder}{os.sep}",
        ],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 120,
        check=False,
    )  # fmt: skip
    ran = re.search(r"Done (\d+) runs in (\d+) second", done.stderr)
    tried = f"{int(ran[1]):,} inputs in {ran[2]} s" if ran else "ended early"
    return tried, [] if done.returncode == 0 and ran else [_why(done.stderr, folder)]


def _why(output: str, folder: Path) -> str:
    """What was found, with the input that shows it."""
    words = re.findall(r"^(?:\w+Error.*|ERROR: libFuzzer: .*|==\d+== ?ERROR.*)$", output, re.MULTILINE)
    inputs = [
        file.read_bytes()[:200]
        for file in folder.iterdir()
        if file.name.startswith(("crash", "timeout", "oom"))
    ]
    return f"{words[-1] if words else output[-200:]} by {inputs}"
