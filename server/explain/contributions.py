"""A process of its own that computes LightGBM's contributions: rows on stdin, contributions on stdout.

`python -m server.explain.contributions MODEL SHA256 WIDTH`. The model's library is called through
its C interface with everything allocated before the first row: one row costs it
0.1 ms, where `Booster.predict(pred_contrib=True)` costs 1 ms. It is loaded without
the Python package around it, which would import scipy and 100 MiB with it.
Source: `LightGBM/include/LightGBM/c_api.h`; the result is that of `pred_contrib`
to the bit.
"""

import ctypes
import hashlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path

_PREDICT_CONTRIB = 3  # C_API_PREDICT_CONTRIB
_FLOAT64 = 1  # C_API_DTYPE_FLOAT64
#: The exit code for a model file whose content is not the one that was asked for.
OTHER_SOURCE = 4


def library_path() -> Path | None:
    """LightGBM's shared library, None if LightGBM is not installed; nothing is imported."""
    spec = find_spec("lightgbm")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "lib" / "lib_lightgbm.so"
    return path if path.is_file() else None


class Contributions:
    """One booster with one row, both allocated once. Raises `RuntimeError` with LightGBM's words."""

    def __init__(self, library: Path, model: bytes, width: int) -> None:
        self._lib = ctypes.CDLL(str(library))
        self._lib.LGBM_GetLastError.restype = ctypes.c_char_p
        self._booster, iterations = ctypes.c_void_p(), ctypes.c_int()
        self._check(
            self._lib.LGBM_BoosterLoadModelFromString(
                model, ctypes.byref(iterations), ctypes.byref(self._booster)
            )
        )
        outputs = ctypes.c_int()
        self._check(self._lib.LGBM_BoosterGetNumClasses(self._booster, ctypes.byref(outputs)))
        self.row = (ctypes.c_double * width)()
        self.result = (ctypes.c_double * (outputs.value * (width + 1)))()
        self._length = ctypes.c_int64()
        self._fast = ctypes.c_void_p()
        self._check(
            self._lib.LGBM_BoosterPredictForMatSingleRowFastInit(
                self._booster,
                _PREDICT_CONTRIB,
                0,  # from the first tree
                -1,  # to the last
                _FLOAT64,
                ctypes.c_int32(width),
                b"num_threads=1",
                ctypes.byref(self._fast),
            )
        )

    def compute(self) -> None:
        """Fill `result` from `row`: of each output F contributions and the base."""
        self._check(
            self._lib.LGBM_BoosterPredictForMatSingleRowFast(
                self._fast, self.row, ctypes.byref(self._length), self.result
            )
        )

    def _check(self, code: int) -> None:
        if code:
            raise RuntimeError(self._lib.LGBM_GetLastError().decode())


def main(model: Path, sha256: str, width: int) -> None:
    """Answer rows of F float64 with their contributions, until stdin ends."""
    library = library_path()
    if library is None:
        raise RuntimeError("LightGBM is not installed")
    content = model.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        sys.exit(OTHER_SOURCE)
    with open(0, "rb", closefd=False) as rows, open(os.dup(1), "wb") as results:
        # LightGBM prints what it has to say to stdout, where only results may go.
        os.dup2(2, 1)
        booster = Contributions(library, content, width)
        while rows.readinto(booster.row) == ctypes.sizeof(booster.row):
            booster.compute()
            results.write(booster.result)
            results.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
