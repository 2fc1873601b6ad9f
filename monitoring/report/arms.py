"""Champion and challenger in a report: whose lines there are, how often they agree, and which is better."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monitoring.logs.lines import matching
from monitoring.outcomes.challenged import Challenge, Paired
from server.errors import number_of


@dataclass(frozen=True)
class Arms:
    """`lines` of the log by version of one model, and each challenger that scored beside it."""

    lines: Mapping[str, int] = field(default_factory=dict)
    challenges: Sequence[Challenge] = ()

    @classmethod
    def of(cls, models: Mapping[str, int], champion: str, challenges: Sequence[Challenge]) -> "Arms":
        """The arms of a model: of the lines by model those of its versions."""
        labels = matching(models, champion.partition("@")[0])
        return cls({label: models[label] for label in labels}, challenges)

    def __bool__(self) -> bool:
        """Whether there is anything to compare."""
        return len(self.lines) > 1 or bool(self.challenges)

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {"lines": dict(self.lines), "challenges": [one.to_dict() for one in self.challenges]}

    def table(self) -> Iterator[tuple[str, ...]]:
        """A row for each arm: its name, lines it answered, rows it scored beside, agreement, shift."""
        beside = {one.challenger: one for one in self.challenges}
        for label in sorted({*self.lines, *beside}):
            one = beside.get(label)
            told = (
                (f"{one.rows:,}", f"{one.agreement:.2%}", f"{one.shift.value:+.4f}") if one else ("", "", "")
            )
            yield (label, f"{self.lines.get(label, 0):,}", *told)

    def words(self) -> Iterator[str]:
        """A sentence for each challenger: what it decides otherwise, and what outcomes say."""
        for one in self.challenges:
            flips = ", ".join(f"{before} to {after} {rows:,}" for before, after, rows in one.flips)
            otherwise = f"decides otherwise: {flips}" if flips else "decides every row alike"
            yield f"{one.challenger} beside {one.champion} {otherwise}. {_verdict(one.paired)}"


#: The columns of `Arms.table`.
COLUMNS = ("Arm", "Lines", "Rows beside", "Agree", "Score, mean difference")


def _verdict(paired: Paired | None) -> str:
    if paired is None:
        return "Which is better is open: no outcomes (`--outcomes`)."
    saved = paired.cost_saved
    words = {
        "better": "The challenger is better",
        "worse": "The champion is better",
        "open": "Open which is better",
    }
    return (
        f"{words[paired.verdict]}: by {number_of(paired.n, 'outcome')} the challenger saves "
        f"{saved.value:+.4f} a decision, from {saved.low:+.4f} to {saved.high:+.4f}."
    )
