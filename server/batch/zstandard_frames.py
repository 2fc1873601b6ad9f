"""Zstandard as a stream: whole or an error (zstandard's own reader passes over a frame cut short)."""

import io
from typing import Any, BinaryIO

import zstandard

#: A frame may hold 128 KiB in 3 bytes (RFC 8878, 3.1.1.2): so much at a time comes to 88 MB at most.
_READ_BYTES = 2**11


class ZstandardFrames(io.RawIOBase):
    """What the frames of a file hold, one behind the other; `file` is closed with this.

    Reading raises `zstandard.ZstdError` for what is no frame, `EOFError` for one cut short.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame: Any = None
        self._packed, self._plain = b"", memoryview(b"")

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as one step goes; 0 at the end."""
        while not self._plain:
            packed = self._packed or self._file.read(_READ_BYTES)
            if not packed:
                if self._frame is not None:
                    raise EOFError("a frame that is cut short")
                return 0
            self._decompress(packed)
        size = min(len(buffer), len(self._plain))
        buffer[:size], self._plain = self._plain[:size], self._plain[size:]
        return size

    def _decompress(self, packed: bytes) -> None:
        self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
        self._plain = memoryview(self._frame.decompress(packed))
        self._packed = self._frame.unused_data
        if self._frame.eof:
            self._frame = None

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
