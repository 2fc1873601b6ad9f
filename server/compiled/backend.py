"""What scores the rows of a file: ONNX Runtime, or trees compiled for this processor, with equal bits."""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from server.compiled.forest import NotCompilable
from server.model.bundle import Bundle
from server.model.link import Margins
from server.model.predictor import Predictor
from server.model.row_order import RowOrder
from server.model.schema import Matrix

Name: TypeAlias = Literal["auto", "compiled", "onnx"]
#: Bytes of text, or rows of a table times `ROW_BYTES`, from which compiling pays even the first time.
MIN_BYTES, ROW_BYTES = 64 * 2**20, 200


class Backend(NamedTuple):
    """Margins of many rows, float64 [n, F] to [n] or [n, K]; for any thread. `note` is for the user."""

    margins: Callable[[Matrix], Margins]
    note: str = ""


def open_backend(name: Name, bundle: Bundle, predictor: Predictor, size: int | None = None) -> Backend:
    """The backend of a job; `size` is how much there is to do in bytes, None if it is not known.

    `auto` compiles where that pays. What cannot be compiled is scored by ONNX Runtime.
    """
    order = RowOrder(predictor)
    if name == "onnx":
        return Backend(order.margins)
    try:
        from server.compiled.trees import compiled, is_kept

        if name == "auto" and (size or 0) < MIN_BYTES and not is_kept(bundle):
            return Backend(order.margins)
        made = compiled(bundle, predictor)
    except ImportError as error:
        note = f"scored by ONNX Runtime: with {error.name} (`make tools`) the trees could be compiled"
        return Backend(order.margins, note if name == "compiled" or (size or 0) >= MIN_BYTES else "")
    except NotCompilable as reason:
        return Backend(order.margins, f"scored by ONNX Runtime: this model is not compiled, {reason}")
    return Backend(made.margins, made.note)
