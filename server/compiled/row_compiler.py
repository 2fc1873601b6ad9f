"""Makes the code that scores one row of a bundle: `python -m server.compiled.row_compiler FOLDER DIGEST`.

A process of its own, since the compiler and ONNX's library take 100 MB that a worker does without.
What it has made, or why the bundle is left to ONNX Runtime, it writes to its output and into the user's
cache; where another process makes the same it waits for that. It ends with 1 if it could not try.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from server.compiled.forest import NotCompilable
from server.compiled.kept import alone, sealed
from server.compiled.row_code import RowCode, content_of, keep, kept_code, margin_by, path_of
from server.compiled.row_walk import row_function, row_table
from server.errors import BundleError, first_line
from server.model.bundle import Bundle
from server.model.predictor import Predictor


def row_code(bundle: Bundle) -> RowCode:
    """The code of a bundle, compared with ONNX Runtime; raises `NotCompilable` and `ImportError`."""
    from server.compiled.machine import machine_code
    from server.compiled.trees import forest_of, rows_to_compare

    forest = forest_of(bundle)
    code = RowCode(
        bundle.digest,
        forest.width,
        np.dtype(forest.dtype),
        np.dtype(forest.row_dtype),
        row_table(forest),
        machine_code(row_function(forest.dtype, forest.row_dtype)),
    )
    predictor = Predictor(bundle)
    rows = rows_to_compare(bundle, forest)
    expected = predictor.margins(rows)
    score = margin_by(code, predictor)
    found = np.array([score(row.tobytes()) for row in rows])
    if found.tobytes() != np.ascontiguousarray(expected).tobytes():
        raise NotCompilable("its margins are not equal to the bit")
    return code


def main(arguments: Sequence[str]) -> int:
    """Make the code, or find it."""
    folder, digest = arguments
    try:
        bundle = Bundle.load(Path(folder))
        if bundle.digest != digest:
            raise BundleError(f"expected the bundle that is served in {folder}, got another")
        path = path_of(bundle)
        with alone(path):
            code = kept_code(bundle)
            if code is None:
                code = _made(bundle)
                keep(path, code)
    except (BundleError, ImportError, OSError) as error:
        print(first_line(error))
        return 1
    sys.stdout.buffer.write(sealed(content_of(code)))
    return 0


def _made(bundle: Bundle) -> RowCode | str:
    try:
        return row_code(bundle)
    except NotCompilable as reason:
        return str(reason)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
