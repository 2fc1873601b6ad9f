"""What became of a server, and of the requests of its clients, under one fault."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from loadtest.harness.request_records import WRONG, Reconciled, RequestRecords, reconcile


class Fact(NamedTuple):
    """One thing that must hold. `timed` ones hang on the machine and its load, so no test asserts them."""

    fact: str
    holds: bool
    found: str
    timed: bool


@dataclass
class FaultOutcome:
    """The records of a fault's clients together, and what was checked."""

    sent: int = 0
    ok: int = 0
    shed: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    duplicate: int = 0
    wrong: int = 0
    recover_seconds: float | None = None
    figures: dict[str, str] = field(default_factory=dict)
    checks: list[Fact] = field(default_factory=list)

    def add(self, records: RequestRecords) -> None:
        """Count what clients recorded."""
        self.sent += records.sent
        self.ok += records.ok
        self.shed += records.shed
        self.failed += records.failed
        self.wrong += records.failed[WRONG]

    def add_logged(self, records: RequestRecords, logs: Path, counted: int = 0) -> Reconciled:
        """The same, and how it agreed with logs that count their dropped lines themselves."""
        self.add(records)
        found = reconcile(records, logs)
        self.lost += max(0, len(found.lost) - counted)
        self.duplicate += len(found.duplicates)
        self.wrong += len(found.wrong)
        return found

    def recovered(self, seconds: float) -> None:
        """It took so long; of several times the longest counts."""
        self.recover_seconds = max(self.recover_seconds or 0.0, seconds)

    def expect(self, fact: str, holds: bool, found: object = "", *, timed: bool = False) -> None:
        """Note a check."""
        self.checks.append(Fact(fact, bool(holds), str(found), timed))

    def expect_none(self, what: str, found: int | Mapping[str, int] | Sequence[str]) -> None:
        """Note that something must not have happened: how often it did, by kind, or which."""
        self.expect(f"0 {what}", not found, _in_words(found) or "0")

    def expect_exact_log(self) -> None:
        """Note that every right response must have its line, once, and no line another content."""
        self.expect_none("responses lost", self.lost)
        self.expect_none("lines twice", self.duplicate)
        self.expect_none("responses or lines wrong", self.wrong)

    def expect_at_most(
        self, what: str, value: float, limit: float, unit: str = "", *, timed: bool = False
    ) -> None:
        """Note that a figure has a limit."""
        unit = f" {unit}" if unit else ""
        self.expect(f"{what} at most {limit:g}{unit}", value <= limit, f"{value:.3g}{unit}", timed=timed)

    def expect_at_least(self, what: str, value: float, limit: float, *, timed: bool = False) -> None:
        """Note that a figure has a lower limit."""
        self.expect(f"{what} at least {limit:g}", value >= limit, f"{value:.3g}", timed=timed)

    @property
    def broken(self) -> list[str]:
        """What did not hold, in words."""
        return [_words(check) for check in self.checks if not check.holds]

    @property
    def broken_untimed(self) -> list[str]:
        """What did not hold, and would not on any machine."""
        return [_words(check) for check in self.checks if not check.holds and not check.timed]

    def failed_in_words(self) -> str:
        """How many requests failed, by kind."""
        return _in_words(dict(sorted(self.failed.items()))) or "0"

    def recovered_in_words(self) -> str:
        """How long it took to recover, "" where nothing had to."""
        return "" if self.recover_seconds is None else f"{round(self.recover_seconds, 2):g} s"


def _in_words(found: int | Mapping[str, int] | Sequence[str]) -> str:
    if isinstance(found, int):
        return f"{found:,}"
    if isinstance(found, Mapping):
        return ", ".join(f"{count:,} {kind}" for kind, count in found.items())
    return "; ".join(found)


def _words(check: Fact) -> str:
    return f"expected {check.fact}, got {check.found or 'the contrary'}"
