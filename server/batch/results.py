"""What came of blocks and jobs, and what is told of their bad rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from server.batch.blocks import Block
from server.batch.formats import CSV, STANDARD
from server.batch.layout import FileLayout
from server.errors import MAX_REPORTED, BadValue, BatchRefused
from server.model.bundle import Bundle


class BlockResult(NamedTuple):
    """A scored block as the content of a part, with what was wrong in it."""

    content: bytes
    rows: int
    bad_rows: int
    bad: list[BadValue]


@dataclass
class Totals:
    """What a job did."""

    rows: int = 0
    bad_rows: int = 0
    resumed_rows: int = 0
    report: Path | None = None


def write_report(target: Path, bad: list[BadValue]) -> Path | None:
    """`OUT.bad.csv`, a line a bad value; one of an earlier run does not stay."""
    if target == STANDARD:
        target = Path("standard-output")
    path = target.with_name(target.name + ".bad.csv")
    path.unlink(missing_ok=True)
    if not bad:
        return None
    report = pl.DataFrame(bad, schema=["line", "feature", "detail", "file"], orient="row")
    if any(value.file for value in bad):
        report = report.select("file", "line", "feature", "detail")
    else:
        report = report.drop("file")
    report.write_csv(path)
    return path


def refusal(
    bundle: Bundle, source: str, bad_rows: int, bad: list[BadValue], layout: FileLayout
) -> BatchRefused:
    """The sentence about bad rows, the first of them named, and how the file was read."""
    first = "; ".join(": ".join(filter(None, (f"line {b.row}", b.feature, b.detail))) for b in bad[:10])
    words = "a row that is" if bad_rows == 1 else f"{bad_rows} rows that are"
    read = f" ({', '.join(layout.dialect.notes)})" if layout.dialect.notes else ""
    words_came = layout.kind == CSV and any(value.detail.endswith("got a string") for value in bad)
    missing = "say with --missing which words stand for no value, " if words_came else ""
    return BatchRefused(
        f"expected rows of {bundle.label} in {source}{read}, got {words} not ({first}): "
        f"correct them, {missing}or choose --on-bad-row skip or null"
    )


def described(block: Block, result: BlockResult) -> dict[str, Any]:
    """What is kept of a part beside its content."""
    return {
        "index": block.number,
        "size": block.size,
        "rows": result.rows,
        "bad_rows": result.bad_rows,
        "bytes": len(result.content),
        "bad": [list(bad) for bad in result.bad[:MAX_REPORTED]],
    }
