"""The compiled code of single rows, where it can be had, in place of ONNX Runtime: the same bits, sooner."""

import asyncio
import logging
import sys
from importlib.util import find_spec
from pathlib import Path

from server.child import output_of
from server.compiled.row_code import RowCode, code_in, kept_code, margin_by
from server.scoring.one_row import Scorer

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
#: A process that takes longer is ended, and the rows stay with ONNX Runtime.
MOST_SECONDS = 120.0


class RowBackend:
    """Has the rows of one scorer scored by compiled code once there is some; on the running event loop.

    Code that was made before serves from the first row on. Else a process makes it
    meanwhile; without a compiler, or of a model that is not compiled, ONNX Runtime stays.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._label = scorer.bundle.label
        self._making: asyncio.Task[None] | None = None
        missing = [name for name in ("llvmlite", "onnx") if find_spec(name) is None]
        code = kept_code(scorer.bundle)
        if code is None and not missing:
            self._making = asyncio.get_running_loop().create_task(self._make())
        else:
            self._use(f"{missing[0]} is not installed" if code is None else code)

    async def made(self) -> None:
        """Wait until there is code, or there will be none: for who measures."""
        if self._making is not None:
            await asyncio.wait([self._making])

    def cancel(self) -> None:
        """Make nothing any more."""
        if self._making is not None:
            self._making.cancel()

    async def _make(self) -> None:
        bundle = self._scorer.bundle
        folder = str(bundle.directory.resolve())
        command = (sys.executable, "-m", "server.compiled.row_compiler", folder, bundle.digest)
        try:
            code, made = await output_of(command, MOST_SECONDS, stderr=asyncio.subprocess.DEVNULL, cwd=ROOT)
        except OSError as error:
            self._use(f"no process can be started, {error.strerror}")
            return
        if code is None:
            self._use("it takes too long to compile")
        elif code == 1:
            self._use(made.decode(errors="replace").strip())
        else:
            self._use(code_in(made, bundle) or "the compiler failed")

    def _use(self, code: RowCode | str) -> None:
        if isinstance(code, RowCode):
            try:
                self._scorer.score_by(margin_by(code, self._scorer.predictor))
            except OSError as error:
                code = f"the system runs no code that a process brings, {error.strerror}"
        if isinstance(code, RowCode):
            logger.info("%s: single rows are scored by compiled trees.", self._label)
        else:
            logger.info("%s: single rows are scored by ONNX Runtime: %s.", self._label, code)
