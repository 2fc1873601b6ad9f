"""What one export is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ExportRequest:
    """The options of `python -m export`; None and empty where nothing is said.

    With `out` a bundle is written; `schema_template` and `description` print instead.
    """

    source: Path
    out: Path | None = None
    schema_template: bool = False
    description: bool = False
    schema: Path | None = None
    data: Path | None = None
    evaluate: Path | None = None
    target: str | None = None
    positive: str | None = None
    name: str | None = None
    version: str | None = None
    threshold: float | None = None
    decisions: tuple[str, str] | None = None
    classes: tuple[str, ...] = ()
    task: str | None = None
    output: str | None = None
    absent: Literal["nan", "0"] = "nan"
    rounds: Literal["best", "all"] | None = None
    fn_cost: float | None = None
    fp_cost: float | None = None
    replace: bool = False
    trust_pickle: bool = False
    python: Path | None = None
    allow_protected: str | None = None
