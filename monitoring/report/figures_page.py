"""Outcomes and fairness as HTML pages: the figures of the terminal, with their intervals drawn."""

import math
from collections.abc import Iterator, Sequence

from monitoring.outcomes.fairness import FOUR_FIFTHS, FairnessGroup, Group
from monitoring.outcomes.group_figures import ValueGroup
from monitoring.outcomes.reported import OutcomeReport, Performance
from monitoring.outcomes.terminal import (
    EXPECTED,
    expected_rows,
    fairness_notes,
    fairness_rows,
    performance_rows,
)
from monitoring.outcomes.words import EXPECTED_NOTE, joined_words
from monitoring.report import plots
from monitoring.report.parts import Part
from monitoring.report.templates import templates
from server.errors import number_of


def render_outcomes(report: OutcomeReport) -> str:
    """The page of a report of outcomes, UTF-8 text."""
    lead = number_of(report.decisions, "decision")
    return _page(f"Outcomes of {report.model}", lead, list(_worse(report)), outcome_parts(report))


def outcome_parts(report: OutcomeReport) -> list[Part]:
    """The sections of a report of outcomes: figures by vintage, and what the scores promise."""
    parts = []
    if report.expected is not None:
        rows = list(expected_rows(report))
        numbers = range(1, 1 + len(EXPECTED))
        title = "What the scores promise, of all decisions"
        parts.append(Part(title, EXPECTED_NOTE, ("", *EXPECTED), rows, numbers))
    if report.whole is not None:
        every = [report.whole, *report.periods, *report.segments]
        drawn = [(words, _drawn(every, name)) for name, words in report.whole.DRAWN.items()]
        names = ("", *report.whole.COLUMNS, "worse")
        rows = list(performance_rows(report))
        told = Part(
            "By outcomes", " ".join(joined_words(report)), names, rows, range(1, len(names) - 1), drawn
        )
        parts.insert(0, told)
    return parts


def render_fairness(groups: Sequence[Group], model: str, by: str) -> str:
    """The page of a model's decisions by the groups of a field, UTF-8 text."""
    judged = [group for group in groups if isinstance(group, FairnessGroup) and group.is_judged]
    ratios = [(group.name, group.ratio, group.adverse) for group in judged]
    means = [(group.name, group.mean, False) for group in groups if isinstance(group, ValueGroup)]
    drawn = []
    if ratios:
        drawing = plots.intervals(ratios, [(FOUR_FIFTHS, "four fifths")])
        drawn.append(("Ratio of the share accepted to the highest", drawing))
    if means:
        drawn.append(("Prediction in the mean", plots.intervals(means)))
    names = (*groups[0].columns, "verdict")
    notes, rows = " ".join(fairness_notes(groups)), list(fairness_rows(groups))
    part = Part(f"Decisions by {by}", notes, names, rows, range(1, len(names) - 1), drawn)
    said = [
        f"Adverse impact: {group.name}, ratio {group.ratio.value:.2f}." for group in judged if group.adverse
    ]
    if not said:
        said = ["No group is accepted too seldom." if judged else "No group is judged."]
    lead = number_of(sum(group.n for group in groups), "decision")
    return _page(f"Fairness of {model} by {by}", lead, said, [part])


def _worse(report: OutcomeReport) -> Iterator[str]:
    if report.whole is None:
        yield "No outcome is of a decision in the log" + (
            ": here is what the scores promise." if report.expected else "."
        )
        return
    for one in report.worse:
        yield f"{one.name or 'All'}: {one.worse}."
    if not report.worse:
        yield "Outcomes are as good as the model promised."


def _drawn(every: Sequence[Performance], name: str) -> str:
    told = [(one.name or "all", one.figures[name], bool(one.worse)) for one in every]
    return plots.intervals([entry for entry in told if not math.isnan(entry[1].value)])


def _page(title: str, lead: str, conclusions: Sequence[str], parts: Sequence[Part]) -> str:
    return templates.get_template("figures.html").render(
        title=title, lead=lead, conclusions=conclusions, parts=parts
    )
