"""The machine code that makes lines, as the observer runs it: without a compiler."""

import ctypes
import logging
import os
import platform
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from server.compiled.kept import cache_folder, executable, read_sealed, sources_digest, unsealed
from server.log.compiled.block import BREAKS, CALL, MOVED, PIECE_BYTES
from server.log.line import LineFrame
from server.log.ring import Waiting

logger = logging.getLogger(__name__)

#: More than the code has.
_CODE_BYTES = 2**16
#: Room for the lines and rows of one step (`stream.LATE`); memory is taken as it is used.
_LINES_BYTES, _ROWS_BYTES = 2**20, 2**19
_BEHIND = bytes(PIECE_BYTES)
_MOVED_PLACES = [CALL.index(name) for name in MOVED]
_signature = ctypes.PYFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)


class LineBlock(NamedTuple):
    """Lines of some records and how many, their rows (see `RecordGroup`), and the position behind them."""

    lines: bytes
    made: int
    rows: bytes
    read: int


class LineCode:
    """Makes lines of the records in a ring by machine code (`block.block_function`).

    Raises `OSError` where the system runs no code that a process brings.
    """

    def __init__(self, machine_code: bytes) -> None:
        self._page = executable(machine_code)
        self._function = _signature(np.frombuffer(self._page, np.uint8).ctypes.data)
        self._lines, self._rows = np.empty(_LINES_BYTES, np.uint8), np.empty(_ROWS_BYTES, np.uint8)
        self._call = np.zeros(len(CALL), np.uint64)
        self._at = self._call.ctypes.data

    def block(self, waiting: Waiting, frame: LineFrame) -> LineBlock:
        """What comes of the first records that wait; no lines where the first of them is not plain."""
        head, tail = frame.head + _BEHIND, frame.tail + _BEHIND
        lines, rows = self._lines.ctypes.data, self._rows.ctypes.data
        self._call[:] = (
            waiting.start, waiting.end, waiting.readable_end, waiting.instance, frame.began_ns,
            _address(head), len(frame.head), _address(tail), len(frame.tail),
            lines, lines + _LINES_BYTES, rows, rows + _ROWS_BYTES, _address(BREAKS),
        )  # fmt: skip
        made = self._function(self._at)
        record, line, row = (int(self._call[place]) for place in _MOVED_PLACES)
        return LineBlock(
            self._lines[: line - lines].tobytes(),
            made,
            self._rows[: row - rows].tobytes(),
            waiting.position + record - waiting.start,
        )


def _address(text: bytes) -> int:
    return ctypes.cast(ctypes.c_char_p(text), ctypes.c_void_p).value or 0


def code_path() -> Path:
    """Where the code is kept: under the digest of what makes and judges it."""
    digest = sources_digest(Path(__file__).parents[1])
    digest.update(platform.machine().encode())
    return cache_folder() / f"{digest.hexdigest()}.line"


class LineCodes:
    """The code that makes lines, once there is some: kept from before, or what a process makes meanwhile."""

    def __init__(self, *, is_wanted: bool) -> None:
        self.code: LineCode | None = None
        self._maker: subprocess.Popen[bytes] | None = None
        if not is_wanted:
            return
        if (kept := read_sealed(code_path())) is not None:
            self._use(kept)
        elif find_spec("llvmlite") is None:
            self._do_without("llvmlite is not installed")
        else:
            self._start()

    def look_after(self) -> None:
        """Take what a process has made, when it has."""
        if self._maker is None or self._maker.poll() is None:
            return
        content = os.pread(self._output, _CODE_BYTES, 0)
        os.close(self._output)
        if self._maker.returncode == 0 and (made := unsealed(content)) is not None:
            self._use(made)
        else:
            why = content.decode(errors="replace").strip() if self._maker.returncode == 1 else ""
            self._do_without(why or "the compiler failed")
        self._maker = None

    def _start(self) -> None:
        try:
            self._output = os.memfd_create("hotrow-line-code", os.MFD_CLOEXEC)
            command = (sys.executable, "-m", "server.log.compiled.compiler")
            self._maker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._output)
        except OSError as error:
            self._do_without(f"no process can be started, {error.strerror}")

    def _use(self, made: bytes) -> None:
        try:
            self.code = LineCode(made)
        except OSError as error:
            self._do_without(f"the system runs no code that a process brings, {error.strerror}")
        else:
            logger.info("The lines of the prediction log are made by compiled code.")

    def _do_without(self, why: str) -> None:
        logger.info("The lines of the prediction log are made by Python: %s.", why)
