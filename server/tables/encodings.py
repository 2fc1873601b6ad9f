"""What a text file is in, told by its bytes: its encoding, or that it is no text."""

import itertools
from collections.abc import Iterable

import numpy as np

from server.errors import TableRefused
from server.zstandard import BEGINNINGS

UTF8, CP1252 = "utf-8", "cp1252"
#: Byte order marks, the longer first: that of UTF-16 begins one of UTF-32.
_MARKS = {
    b"\xff\xfe\0\0": "utf-32-le",
    b"\0\0\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
#: Which of four bytes are mostly zero in Western text.
_ZEROS = {
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}
_UNPACK, _EXPORT = "unpack it first", "write it as text first"
#: What files that are no text begin with, which no header of a table does; what they are, what to do.
_NO_TEXT = {
    b"\x1f\x8b": ("what gzip packed", _UNPACK),
    b"BZh91AY&SY": ("what bzip2 packed", _UNPACK),
    b"\xfd7zXZ\0": ("what xz packed", _UNPACK),
    **dict.fromkeys(BEGINNINGS, ("what zstd packed", _UNPACK)),
    b"7z\xbc\xaf": ("a 7z archive", _UNPACK),
    b"PK\x03\x04": ("a zip archive or a workbook", _UNPACK),
    b"\xd0\xcf\x11\xe0": ("a workbook of old Excel", "save it as .xlsx or CSV"),
    b"PAR1\x15": ("Parquet", _EXPORT),
    b"ARROW1\0": ("Arrow", _EXPORT),
    b"\x93NUMPY": ("an array of NumPy", _EXPORT),
    b"\x89HDF": ("HDF5", _EXPORT),
    b"SQLite format 3": ("a database", _EXPORT),
    b"%PDF": ("PDF", _EXPORT),
    b"\x89PNG": ("a picture", _EXPORT),
    b"\xff\xd8\xff": ("a picture", _EXPORT),
    b"GIF89a": ("a picture", _EXPORT),
    b"<!DOCTYPE": ("a web page", "download the file itself"),
    b"<!doctype": ("a web page", "download the file itself"),
    b"<html": ("a web page", "download the file itself"),
    b"<?xml": ("XML", "write it as CSV"),
    b"Obj\x01": ("Avro", _EXPORT),
    b"$FL2@(#)": ("a file of SPSS", _EXPORT),
    b"<stata_dta>": ("a file of Stata", _EXPORT),
    b"HEADER RECORD*******": ("a transport file of SAS", _EXPORT),
    b"version https://git-lfs": ("a pointer of Git LFS", "fetch the file itself with `git lfs pull`"),
    b"-----BEGIN PGP": ("a file that is encrypted", "decrypt it first"),
}
#: Bytes that Windows-1252 leaves undefined (Unicode's CP1252.TXT).
_NOT_CP1252 = bytes((0x81, 0x8D, 0x8F, 0x90, 0x9D))
#: What may stand beside a byte: no letter, a small one, a capital.
_OTHER, _SMALL, _CAPITAL = 0, 1, 2
_LETTERS = (_SMALL, _CAPITAL)
#: Letters of Mac Roman and of DOS (cp437, cp850) where Windows-1252 has a sign that stands in no word,
#: a mark that opens one or a capital behind a small letter, or a small letter between capitals: the
#: bytes, what stands before and what behind them.
_OTHER_LETTERS = (
    (b"\x82\x83\x84\x86\x87\x88\x89\x8b\x93\x94\x98\x9b", _LETTERS, _LETTERS),
    (b"\x99", [_SMALL], [_SMALL]),
    (b"\x82\x84\x88", [_SMALL], [_OTHER, *_LETTERS]),
    (b"\x8a\x8c\x8e\x9f", [_SMALL], [_OTHER, _SMALL]),
    (b"\x9a\x9c\x9e", [_CAPITAL], [_CAPITAL]),
)
_BEYOND_ASCII = bytes(range(0x80, 0x100))
_SIDE = np.zeros(256, np.uint8)
_SIDE[ord("a") : ord("z") + 1], _SIDE[ord("A") : ord("Z") + 1] = _SMALL, _CAPITAL
#: For each byte a bit for each pair of sides between which it is such a letter.
_SIDES = np.zeros(256, np.uint16)
for letters, before, behind in _OTHER_LETTERS:
    for one, two in itertools.product(before, behind):
        _SIDES[list(letters)] |= 1 << (3 * one + two)


def encoding_of(pieces: Iterable[bytes], where: str) -> str:
    """The encoding of a text that comes in pieces: utf-8, utf-16-le, utf-32-be, … or cp1252.

    UTF-16 and UTF-32 need their mark (or show themselves by their zero bytes). What is no
    UTF-8 is taken for Windows-1252 only if nothing in it is UTF-8 beyond ASCII, and its words
    are none of Mac Roman or DOS. Raises `TableRefused` otherwise.
    """
    count, text = _Utf8Count(), True
    for index, piece in enumerate(pieces):
        if not index:
            refuse_no_text(piece, where)
            if encoding := _wide(piece):
                return encoding
            text = b"\0" not in piece
        count.add(piece)
        if count.is_neither:
            break
    count.end()
    if not count.bad:
        return UTF8
    if not count.is_neither:
        return CP1252
    if not text:
        raise TableRefused(f"expected text in {where}, got bytes of another kind of file: {_EXPORT}")
    raise TableRefused(
        f"expected {where} in UTF-8, UTF-16 or Windows-1252, got bytes of none of them from line "
        f"{count.bad_line} on",
        ": say which it is with --encoding, such as mac_roman or cp850",
    )


def refuse_no_text(beginning: bytes, where: str) -> None:
    """Raise `TableRefused` for what begins as files do that are no text."""
    if what := other_kind(beginning):
        raise TableRefused(f"expected text in {where}, got {what}")


def other_kind(beginning: bytes) -> str:
    """What a file is that begins so and is no text, and what to do about it; or ""."""
    found = (said for magic, said in _NO_TEXT.items() if beginning.startswith(magic))
    return ": ".join(next(found, ()))


def _wide(beginning: bytes) -> str:
    """UTF-16 or UTF-32 by its mark, or by where its zeros are, of which UTF-8 has hardly any; or ""."""
    for mark, encoding in _MARKS.items():
        if beginning.startswith(mark):
            return encoding
    sample = beginning[:1024]
    first, second, third, fourth = (sample[i::4].count(0) * 8 > len(sample) for i in range(4))
    return _ZEROS.get((first, second, third, fourth), "")


class _Utf8Count:
    """How many characters beyond ASCII are UTF-8, how many bytes are none, and where the first is.

    `other` says whether bytes that are none are none of Windows-1252 either.
    """

    def __init__(self) -> None:
        self.good = self.bad = self.bad_line = 0
        self.other = False
        self._rest, self._lines = b"", 1

    @property
    def is_neither(self) -> bool:
        """Whether it is neither UTF-8 nor Windows-1252, whatever comes."""
        return bool(self.bad and (self.good or self.other))

    def add(self, piece: bytes) -> None:
        if not self._rest and piece.isascii():
            self._lines += _line_feeds(piece)
            return
        whole = self._rest + piece
        # A character may go on in the next piece: at most three bytes of it are here.
        keep = next((i for i in (1, 2, 3) if whole[-i : -i + 1 or None] >= b"\xc0"), 0)
        self._rest = whole[len(whole) - keep :] if keep else b""
        self._count(whole[: len(whole) - keep])

    def end(self) -> None:
        self._count(self._rest)

    def _count(self, text: bytes) -> None:
        try:
            self.good += len(text.decode()) != len(text)
        except UnicodeDecodeError as error:
            if not self.bad:
                self.bad_line = self._lines + text.count(b"\n", 0, error.start)
            self.bad += 1
            self.good += len(text.decode(errors="ignore")) != len(text.translate(None, _BEYOND_ASCII))
            self.other |= any(text.count(byte) for byte in _NOT_CP1252) or _has_other_letters(text)
        self._lines += _line_feeds(text)


def _has_other_letters(text: bytes) -> bool:
    """By vectors: an expression took three seconds for 16 MiB."""
    content = np.frombuffer(text, np.uint8)
    sides = _SIDE[content]
    pairs = np.zeros_like(sides)
    pairs[1:] = 3 * sides[:-1]
    pairs[:-1] += sides[1:]
    return bool((_SIDES[content] >> pairs & 1).any())


def _line_feeds(text: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == 10))  # counts in vectors
