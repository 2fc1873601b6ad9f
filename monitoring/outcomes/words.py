"""What outcomes tell, in words: of whom figures speak, and what follows from them."""

from collections.abc import Iterator

from monitoring.outcomes.reported import OutcomeReport
from server.errors import number_of

EXPECTED_NOTE = (
    "Expected is what the scores promise if they still mean what they say (CBPE, 99 % interval); "
    "that they came to mean something else, outcomes alone tell."
)


def outcome_conclusions(report: OutcomeReport) -> Iterator[str]:
    """What follows from the figures, a sentence each; nothing where there are none."""
    if report.whole is None:
        if report.expected is not None and report.expected.rows:
            yield f"Before outcomes came, the scores promise {_promise(report)}."
        return
    whole = number_of(report.whole.n, "decision")
    if not report.worse:
        yield f"By the outcomes of {whole} the model is as good as it promised; of others they say nothing."
    for one in report.worse:
        which = f"Decisions of {one.name}" if one.name else "Decisions with an outcome"
        yield f"{which} ({one.n:,}) are worse than the model promised: {one.worse}."


def _promise(report: OutcomeReport) -> str:
    assert report.expected is not None
    return (
        f"a rate of {report.expected.rate.words(3)}, AUC {report.expected.auc.words(3)} and a cost of "
        f"{report.expected.cost.words(3)} a decision, if they still mean what they say"
    )


def joined_words(report: OutcomeReport) -> Iterator[str]:
    """How many outcomes are of a decision, and of whom the figures speak."""
    if report.outcomes == 0:
        yield "No outcome is known yet."
    elif report.outcomes:
        joined = report.outcomes - report.strangers - report.early - report.unusable
        yield (
            f"Outcomes of a decision in the log: {joined:,} of {report.outcomes:,}"
            + (f", of none: {report.strangers:,}" if report.strangers else "")
            + (f", dated before their decision: {report.early:,}" if report.early else "")
            + (f", that say nothing of this model: {report.unusable:,}" if report.unusable else "")
            + (
                f"; of a decision with a later one by another key: {report.doubled:,}"
                if report.doubled
                else ""
            )
            + (f"; there twice, the latest counts: {report.corrected:,}" if report.corrected else "")
            + "."
        )
    elif report.expected is None:
        yield "No outcomes are kept beside the log: what values or classes are worth, outcomes alone tell."
    if report.whole and report.accepted is not None:
        yield (
            f"The figures speak of {report.whole.n:,} alone (accepted: {report.accepted:,}): "
            "who was refused, or has no outcome yet, is in none of them."
        )
    elif report.whole:
        yield f"The figures speak of {report.whole.n:,} alone: what has no outcome yet is in none of them."
