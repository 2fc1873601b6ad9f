"""Workbooks without danger for the server: one at a time, in a process that has its own limits."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Literal

from server.child import said_by
from server.errors import UnacceptableRow
from ui.workbook.child import CPU_SECONDS, REFUSED

#: The largest file that is looked at, packed.
MAX_WORKBOOK_BYTES = 2**25
#: The largest CSV that becomes a workbook.
MAX_CSV_BYTES = 2**26
_ROOT = Path(__file__).resolve().parents[2]
#: On a machine with other work a second of the clock is less than one of the processor.
_PATIENCE = 4.0


class Workbooks:
    """Reads and writes workbooks; for one event loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def csv_of(self, content: bytes) -> bytes:
        """The first sheet as CSV; raises `UnacceptableRow` for what is none, or too large."""
        return await self._made("read", content)

    async def workbook_of(self, text: bytes, separator: str | None, decimal: str | None) -> bytes:
        """A workbook of one sheet; raises `UnacceptableRow` for a table that is too large."""
        return await self._made("write", text, separator or ",", decimal or ".")

    async def _made(self, what: Literal["read", "write"], content: bytes, *options: str) -> bytes:
        async with self._turn:
            said = await said_by(
                [sys.executable, "-m", "ui.workbook.child", what, *options],
                _PATIENCE * CPU_SECONDS[what],
                content,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(_ROOT)},
            )
        if said.code is None:
            raise UnacceptableRow("expected a workbook that can be read soon, got one that cannot")
        if said.code == REFUSED:
            raise UnacceptableRow(said.errors.decode(errors="replace"))
        if said.code != 0:
            raise UnacceptableRow(
                "expected a whole workbook, to be read within 1 GiB of memory and "
                f"{CPU_SECONDS[what]} seconds, got another: save it as CSV"
            )
        return said.output
