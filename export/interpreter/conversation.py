"""The other interpreter, asked line by line."""

import contextlib
import os
import subprocess
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from export import reader
from export.errors import ExportRefused
from server.model.schema import Matrix

_READER = Path(reader.__file__)
_OURS = str(Path(__file__).parents[2])


class Conversation:
    """A process of another Python that has read one model and answers for it.

    Raises `ExportRefused` where that Python does not start or does not know the model.
    It ends with this object, at the latest with this process.
    """

    def __init__(self, python: Path, path: Path) -> None:
        self._python = python
        try:
            self._process = subprocess.Popen(
                [python, "-c", _READER.read_text()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_environment(),
            )
        except OSError as error:
            raise ExportRefused(
                f"expected a Python at {python}, got: {error.strerror}: give the interpreter of the "
                "environment that the model was trained in, .venv/bin/python for example"
            ) from None
        weakref.finalize(self, _end, self._process)
        self.ask({"do": "read", "path": str(path.absolute())})

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to one request; raises `ExportRefused` for one that is none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(orjson.dumps(request) + b"\n")
            self._process.stdin.flush()
            reply: dict[str, Any] = orjson.loads(self._process.stdout.readline() or b'{"error": "it ended"}')
        except BrokenPipeError:
            reply = {"error": "it ended"}
        if words := reply.get("unknown"):
            raise ExportRefused(
                f"expected a model that --python can hand over (boosters, trees of scikit-learn, and these "
                f"behind encoders, imputers and scalers of columns), got {words}: save it with the versions "
                "that are here, or as ONNX where it was trained"
            )
        if words := reply.get("error"):
            raise ExportRefused(
                f"expected {self._python} to read and score the model, got: {words}: is it the environment "
                "that the model was trained in, with NumPy and pandas?"
            )
        return reply

    def scores(self, request: dict[str, Any]) -> Matrix:
        """The numbers of a reply, float64 of whatever shape."""
        found: Matrix = reader.unpacked(self.ask(request)).astype(np.float64)
        return found


def _environment() -> dict[str, str]:
    """Without our folder, whose `train` or `server` would hide what the model was made with."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path != _OURS)}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close what it reads from, at which it ends, and wait for that."""
    with contextlib.suppress(BrokenPipeError):
        process.communicate()
