"""Outcomes and fairness as HTML pages: the figures of the terminal, with their intervals drawn."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from monitoring.outcomes.fairness import FOUR_FIFTHS, FairnessGroup
from monitoring.outcomes.performance import OutcomeReport, Performance
from monitoring.outcomes.terminal import (
    EXPECTED,
    EXPECTED_NOTE,
    FIGURES,
    GROUP_FIGURES,
    expected_rows,
    fairness_notes,
    fairness_rows,
    joined_words,
    performance_rows,
)
from monitoring.report import plots
from monitoring.report.templates import templates
from server.errors import number_of


class Part(NamedTuple):
    """A section: its drawings, by name, and a table whose columns `numbers` are figures."""

    title: str
    note: str
    names: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int]
    plots: Sequence[tuple[str, str]] = ()


def render_outcomes(report: OutcomeReport) -> str:
    """The page of a report of outcomes, UTF-8 text."""
    parts = [
        Part(
            "What the scores promise, of all decisions",
            EXPECTED_NOTE,
            ("", *EXPECTED),
            list(expected_rows(report)),
            range(1, 1 + len(EXPECTED)),
        )
    ]
    if report.whole is not None:
        every = [report.whole, *report.periods, *report.segments]
        drawn = [("Rate of the outcome", _drawn(every, "rate")), ("AUC", _drawn(every, "auc"))]
        names = ("", *FIGURES, "worse")
        rows = list(performance_rows(report))
        told = Part(
            "By outcomes", " ".join(joined_words(report)), names, rows, range(1, len(names) - 1), drawn
        )
        parts.insert(0, told)
    lead = number_of(report.decisions, "decision")
    return _page(f"Outcomes of {report.model}", lead, list(_worse(report)), parts)


def render_fairness(groups: Sequence[FairnessGroup], model: str, by: str, accepted: str) -> str:
    """The page of a model's decisions by the groups of a field, UTF-8 text."""
    judged = [(group.name, group.ratio, group.adverse) for group in groups if group.is_judged]
    drawn = plots.intervals(judged, [(FOUR_FIFTHS, "four fifths")]) if judged else ""
    names = ("group", "n", accepted, *GROUP_FIGURES, "verdict")
    part = Part(
        f"Decisions by {by}",
        " ".join(fairness_notes(groups)),
        names,
        list(fairness_rows(groups)),
        range(1, len(names) - 1),
        [("Ratio of the share accepted to the highest", drawn)] if judged else [],
    )
    adverse = [
        f"Adverse impact: {group.name}, ratio {group.ratio.value:.2f}." for group in groups if group.adverse
    ]
    lead = number_of(sum(group.n for group in groups), "decision")
    return _page(
        f"Fairness of {model} by {by}", lead, adverse or ["No group is accepted too seldom."], [part]
    )


def _worse(report: OutcomeReport) -> Iterator[str]:
    if report.whole is None:
        yield "No outcome is of a decision in the log: here is what the scores promise."
        return
    for one in report.worse:
        yield f"{one.name or 'All'}: {one.worse}."
    if not report.worse:
        yield "Outcomes are as good as the model promised."


def _drawn(every: Sequence[Performance], name: str) -> str:
    told = [(one.name or "all", getattr(one, name), bool(one.worse)) for one in every]
    return plots.intervals([entry for entry in told if not math.isnan(entry[1].value)])


def _page(title: str, lead: str, conclusions: Sequence[str], parts: Sequence[Part]) -> str:
    return templates.get_template("figures.html").render(
        title=title, lead=lead, conclusions=conclusions, parts=parts
    )
