"""The compiled code of single rows, where it can be had, in place of ONNX Runtime: the same bits, sooner."""

import asyncio
import logging
import sys
from importlib.util import find_spec
from pathlib import Path

from server.child import said_by
from server.compiled.row_code import RowCode, code_in, kept_code, margin_by
from server.errors import first_line
from server.scoring.one_row import Scorer

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
#: A process that takes longer is ended, and the rows stay with ONNX Runtime.
MOST_SECONDS = 120.0


def missing_libraries() -> list[str]:
    """What would have to be installed to compile."""
    return [name for name in ("llvmlite", "onnx") if find_spec(name) is None]


class RowBackend:
    """Has the rows of one scorer scored by compiled code once there is some; on the running event loop.

    Code that was made before is read, or else a process makes it; without a compiler,
    or of a model that is not compiled, ONNX Runtime stays.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._label = scorer.bundle.label
        self._making = asyncio.get_running_loop().create_task(self._find())

    async def made(self) -> None:
        """Wait until there is code, or there will be none: for who measures."""
        await asyncio.wait([self._making])

    def cancel(self) -> None:
        """Make nothing any more."""
        self._making.cancel()

    async def _find(self) -> None:
        try:
            self._use(await self._found())
        except (OSError, RuntimeError) as error:
            self._use(f"no thread or process can be started, {first_line(error)}")

    async def _found(self) -> RowCode | str:
        bundle = self._scorer.bundle
        # In a thread: the tables of a large forest are a hundred megabytes.
        kept = await asyncio.to_thread(kept_code, bundle)
        if kept is not None:
            return kept
        if missing := missing_libraries():
            return f"{missing[0]} is not installed"
        folder = str(bundle.directory.resolve())
        command = (sys.executable, "-m", "server.compiled.row_compiler", folder, bundle.digest)
        code, made, _ = await said_by(command, MOST_SECONDS, stderr=asyncio.subprocess.DEVNULL, cwd=ROOT)
        if code is None:
            return "it takes too long to compile"
        if code == 1:
            return made.decode(errors="replace").strip()
        return code_in(made, bundle) or "the compiler failed"

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
