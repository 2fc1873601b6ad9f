"""What an ONNX file does not tell of itself."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class OnnxOptions:
    """What a file does not tell: names, what absent means, the task, and which output is served."""

    names: Sequence[str] = ()
    absent_is_zero: bool = False
    task: str | None = None
    output: str | None = None
    classes: tuple[str, ...] = ()
