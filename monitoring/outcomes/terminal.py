"""What outcomes tell, as text for a terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape

from monitoring.outcomes.challenged import Challenge
from monitoring.outcomes.estimate import Expected
from monitoring.outcomes.fairness import NOT_JUDGED, FairnessGroup, Group
from monitoring.outcomes.reported import OutcomeReport
from monitoring.outcomes.words import EXPECTED_NOTE, joined_words
from monitoring.tables import table
from server.errors import number_of

EXPECTED = ("n", "rate", "AUC", "Brier", "cost")


def print_outcomes(report: OutcomeReport, console: Console) -> None:
    """Of whom the figures speak, the figures, and what is expected of all decisions."""
    console.print(
        f"[bold]{escape(report.model)}[/]  {number_of(report.decisions, 'decision')}", soft_wrap=True
    )
    for sentence in joined_words(report):
        console.print(sentence, soft_wrap=True)
    if report.whole:
        found = table("", *report.whole.COLUMNS, words="worse")
        for row in performance_rows(report):
            found.add_row(*_with_red(row))
        console.print(found)
    if report.expected is None:
        return
    expected = table("expected of all", *EXPECTED)
    for row in expected_rows(report):
        expected.add_row(*map(escape, row))
    console.print(expected)
    console.print(EXPECTED_NOTE, soft_wrap=True, style="dim")


def print_challenge(challenge: Challenge, console: Console) -> None:
    """What flips, by how much scores differ, and which model outcomes speak for."""
    console.print(
        f"[bold]{escape(challenge.challenger)}[/] beside {escape(challenge.champion)}: "
        f"{number_of(challenge.rows, 'row')} from {challenge.first} to {challenge.last} UTC, "
        f"{1 - challenge.agreement:.2%} decided otherwise, scores {challenge.shift.value:+.4f} in the mean.",
        soft_wrap=True,
    )
    flips = table("champion", "challenger", "rows")
    for champion, challenger, rows in challenge.flips:
        flips.add_row(escape(champion), escape(challenger), f"{rows:,}")
    worst = table("largest difference", "champion", "challenger")
    for id_, score, other in challenge.worst:
        worst.add_row(escape(id_), f"{score:.4f}", f"{other:.4f}")
    for each in (flips, worst) if challenge.flips else (worst,):
        console.print(each)
    paired = challenge.paired
    if paired is None:
        console.print("No outcomes: which is better is open.")
        return
    better = table("by outcomes", "champion", "challenger", "gain", "from", "to")
    gain, saved = paired.auc_gain, paired.cost_saved
    better.add_row(
        "AUC",
        *(f"{value:.4f}" for value in (paired.auc.value, paired.challenger_auc.value)),
        *(f"{value:+.4f}" for value in (gain.value, gain.low, gain.high)),
    )
    better.add_row(
        "cost",
        *(f"{value:.4f}" for value in (paired.cost, paired.challenger_cost)),
        *(f"{value:+.4f}" for value in (saved.value, saved.low, saved.high)),
    )
    console.print(better)
    words = {
        "better": "The challenger costs less: promote it.",
        "worse": "The challenger costs more: withdraw it.",
        "open": "Which costs less is open: let it go on.",
    }
    console.print(
        f"{words[challenge.verdict]} With an outcome: {number_of(paired.n, 'row')}; the bounds of the cost "
        "hold however often you look.",
        soft_wrap=True,
    )


def print_fairness(groups: Sequence[Group], console: Console) -> None:
    """Each group's figures, and which of them is accepted too seldom."""
    judged = table(*map(escape, groups[0].columns), words="verdict")
    for row in fairness_rows(groups):
        judged.add_row(*_with_red(row, but=NOT_JUDGED))
    console.print(judged)
    for sentence in fairness_notes(groups):
        console.print(sentence, soft_wrap=True, style="dim")


def fairness_rows(groups: Sequence[Group]) -> Iterator[list[str]]:
    """Of each group its figures (`columns`) and the verdict."""
    for group in groups:
        yield [*group.cells(), group.verdict]


def fairness_notes(groups: Sequence[Group]) -> Iterator[str]:
    """What the figures mean, and what they cannot say of decisions without an outcome."""
    judged = [group for group in groups if isinstance(group, FairnessGroup)]
    if not judged:
        yield (
            "Which value or class is the favourable one the model does not say, so no group is judged. "
            "Figures beside “outcomes” are of the decisions that have one."
        )
        return
    yield (
        "The ratio is to the highest share; adverse is one that lies below four fifths beyond chance. "
        "Opportunity: the share accepted of those who paid."
    )
    told = [group for group in judged if group.outcomes]
    if told and all(group.opportunity == group.false_acceptance == 1.0 for group in told):
        yield (
            "Every decision with an outcome was an acceptance, so opportunity and false acceptance are 1 "
            "whatever the model does: what became of the refused, nobody knows."
        )


def performance_rows(report: OutcomeReport) -> Iterator[list[str]]:
    """Of all, of each vintage and of each segment its name, figures (`COLUMNS`), and what is worse."""
    assert report.whole is not None
    for one in (report.whole, *report.periods, *report.segments):
        yield [one.name or "all", *one.cells(), one.worse]


def expected_rows(report: OutcomeReport) -> Iterator[list[str]]:
    """The same of what the scores promise: `EXPECTED`."""
    assert report.expected is not None
    for name, promise in {"": report.expected, **report.expected_by_period}.items():
        yield [name or "all", f"{promise.rows:,}", *_promises(promise)]


def _with_red(row: Sequence[str], but: str = "") -> list[str]:
    """Cells for a terminal, the last of them, a verdict, in red."""
    *cells, verdict = map(escape, row)
    return [*cells, f"[red]{verdict}[/]" if verdict not in ("", but) else verdict]


def _promises(promise: Expected) -> list[str]:
    return [
        promise.rate.words(3),
        promise.auc.words(3),
        f"{promise.brier.value:.4f}",
        promise.cost.words(3),
    ]
