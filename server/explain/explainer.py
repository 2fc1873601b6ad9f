"""Why a row is scored as it is: contributions from a helper process, restarted when it dies."""

import asyncio
import logging
import struct
import sys
from contextlib import ExitStack
from pathlib import Path

from server.errors import ModelFailure, NotOffered, Unavailable
from server.explain.contributions import OTHER_SOURCE, library_path
from server.model.bundle import Bundle
from server.model.schema import Row

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
#: The first response waits for the helper's start and the model's load.
ANSWER_SECONDS = 30.0
#: The contributions are LightGBM's own terms of the same sum: only its rounding differs.
TOLERANCE = 1e-9


class Explainer:
    """Asks the helper process, which the first call starts, for the contributions of one bundle.

    Calls are answered one after another; the event loop waits for none of them.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._width = len(bundle.schema)
        self._result = struct.Struct(f"<{bundle.outputs * (self._width + 1)}d")
        self._lock = asyncio.Lock()
        self._helper: asyncio.subprocess.Process | None = None

    async def contributions(self, row: Row) -> list[list[float]]:
        """Of each output of the model F contributions and, last, the base; in the unit of the margin.

        `row` is one encoded row. Raises `NotOffered` if the bundle has no LightGBM
        source, `Unavailable` if the helper dies twice.
        """
        self._check_offered()
        async with self._lock:
            try:
                values = await self._ask(row)
            except (OSError, EOFError):
                await self._check_source()
                logger.warning("The process that explains ended; it is started again.")
                await self._end()
                try:
                    values = await self._ask(row)
                except (OSError, EOFError):
                    await self._end()
                    raise Unavailable("the process that explains does not start") from None
        step = self._width + 1
        return [list(values[start : start + step]) for start in range(0, len(values), step)]

    def check_sum(self, terms: list[float], margin: float) -> None:
        """Raise `ModelFailure` unless contributions and base sum to the margin."""
        if abs(sum(terms) - margin) > TOLERANCE * max(1.0, abs(margin)):
            raise ModelFailure("expected contributions that sum to the margin, got others")

    async def close(self) -> None:
        """End the helper."""
        await self._end()

    async def retire(self) -> None:
        """End the helper when those that wait for it have their responses."""
        async with self._lock:
            await self._end()

    def _check_offered(self) -> None:
        family = self._bundle.manifest.get("source", {}).get("family", "another")
        if family != "lightgbm":
            raise NotOffered(f"expected a bundle with a LightGBM source to explain, got a source of {family}")
        if library_path() is None:
            raise NotOffered("expected LightGBM to be installed on the server, got none")

    async def _ask(self, row: Row) -> tuple[float, ...]:
        if self._helper is None:
            self._helper = await self._start()
        reader, writer = self._helper.stdout, self._helper.stdin
        assert reader is not None
        assert writer is not None
        if writer.is_closing():  # uvloop raises a RuntimeError for a write to a closed pipe
            raise BrokenPipeError
        with ExitStack() as unread:
            # A client that goes, or a time-out, leaves an unread response in the pipe.
            unread.callback(self._kill)
            writer.write(row)
            async with asyncio.timeout(ANSWER_SECONDS):
                response = await reader.readexactly(self._result.size)
            unread.pop_all()
        return self._result.unpack(response)

    async def _start(self) -> asyncio.subprocess.Process:
        source = self._bundle.directory / self._bundle.manifest["source"]["file"]
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.explain.contributions",
            str(source.resolve()),
            self._bundle.manifest["files"][source.name],
            str(self._width),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )

    async def _check_source(self) -> None:
        """Raise `Unavailable` if the helper ended because the source is not that of the model served."""
        if self._helper is not None and await self._helper.wait() == OTHER_SOURCE:
            raise Unavailable("the model's source is not the one it was served from: reload the model")

    def _kill(self) -> None:
        helper, self._helper = self._helper, None
        if helper is not None and helper.returncode is None:
            helper.kill()

    async def _end(self) -> None:
        helper = self._helper
        self._kill()
        if helper is not None:
            await helper.wait()
