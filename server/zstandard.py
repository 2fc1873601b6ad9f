"""Zstandard, which Python has itself from 3.14 on."""

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    try:
        import backports.zstd as zstd
    except ModuleNotFoundError as error:  # where no other package is in that folder, `backports` is missing
        raise ModuleNotFoundError(str(error), name="backports.zstd") from None

__all__ = ["BEGINNINGS", "zstd"]

#: What packed bytes begin with: a frame, or one to be skipped, which pzstd writes before each.
BEGINNINGS = (b"\x28\xb5\x2f\xfd", *(bytes([number]) + b"\x2a\x4d\x18" for number in range(0x50, 0x60)))
