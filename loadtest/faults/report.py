"""The page of results: the last outcome of every fault, with its date and machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from loadtest.faults.outcome import FaultOutcome

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
INTRODUCTION = """# Faults

Written by `make faults`, `make fuzz` and `make soak`: the last run of each fault of the plan in
[reliability.md](../reliability.md), which says how each is done and what it must reach. *Lost* are answers
without a line in the log, *wrong* are answers or lines that differ from the trained model's score by a bit.

| | fault | date | | sent | ok | shed | failed | lost | twice | wrong | recovered |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
#: What a section of the page begins with; its key and a colon follow.
_SECTION = "\n## "


class FaultText(NamedTuple):
    """One fault on the page: its row of the table, and its section."""

    row: str
    section: str


@dataclass(frozen=True)
class Result:
    """What became of one fault, with its date and machine; `skipped` is why it was not injected."""

    outcome: FaultOutcome
    title: str
    seconds: float
    machine: str
    short: bool = False
    skipped: str = ""
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))

    @property
    def state(self) -> str:
        """Passed, failed or skipped."""
        return SKIPPED if self.skipped else FAILED if self.outcome.broken else PASSED


def read(file: Path) -> dict[str, FaultText]:
    """The faults of a page, by key; none if there is no file."""
    table, *sections = file.read_text().split(_SECTION) if file.exists() else [""]
    rows = {line.split()[1]: line for line in table.splitlines() if line.startswith("| F")}
    keys = [section.partition(":")[0] for section in sections]
    return {key: FaultText(rows[key], section) for key, section in zip(keys, sections, strict=True)}


def write(faults: Mapping[str, FaultText], file: Path) -> None:
    """Write the page, in the order of the keys' numbers."""
    ordered = [text for _, text in sorted(faults.items(), key=lambda item: int(item[0][1:]))]
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{text.row}\n" for text in ordered)
    file.write_text(INTRODUCTION + rows + "".join(_SECTION + text.section for text in ordered))


def text_of(key: str, result: Result) -> FaultText:
    """A fault as the page has it."""
    return FaultText(_row(key, result), "\n".join(_details(key, result)))


def _row(key: str, result: Result) -> str:
    found = result.outcome
    cells = [
        key, result.title, result.date, result.state + " (short)" * result.short,
        f"{found.sent:,}", f"{found.ok:,}", f"{found.shed:,}", found.failed_in_words(),
        f"{found.lost:,}", f"{found.duplicate:,}", f"{found.wrong:,}", found.recovered_in_words(),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _details(key: str, result: Result) -> list[str]:
    title = f"{key}: {result.title}"
    if result.skipped:
        return [title, "", f"Skipped on {result.date}: {result.skipped}.", ""]
    lines = [title, "", f"{result.date}, {result.seconds:.0f} s. {result.machine}.", ""]
    for check in result.outcome.checks:
        mark = "reached" if check.holds else "**not reached**"
        lines.append(f"- {check.fact}: {check.found or ('yes' if check.holds else 'no')}, {mark}")
    return [*lines, *(f"- {name}: {value}" for name, value in result.outcome.figures.items()), ""]
