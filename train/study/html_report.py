"""The report of a training run: one page of HTML that needs no network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitoring.report.templates import templates_of
from server.model.bundle import Bundle
from train.study import plots
from train.study.narrator import FIGURES, figure_words
from train.study.study import Study
from train.study.target import writable

_templates = templates_of(Path(__file__).parent)


def write_report(
    file: Path, bundle: Bundle, finished: Study, made_from: Mapping[str, Any], rates: Mapping[str, str]
) -> None:
    """Write the page of a bundle: figures, plots, groups, parameters.

    `rates` names the rates of decisions. Raises `TrainingRefused` if there is no room for it.
    """
    page = _templates.get_template("report.html").render(
        bundle=bundle,
        figures=finished.figures,
        provenance=made_from,
        rows=_rows(finished.figures, rates),
        pictures=_pictures(bundle, finished, rates),
        groups=_groups(finished.figures["held_out"]["groups"], rates),
        costs=finished.figures["held_out"]["cost"],
        words=figure_words,
    )
    with writable(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page)


def _rows(figures: Mapping[str, Any], rates: Mapping[str, str]) -> list[tuple[str, str, str]]:
    held, unseen = figures["held_out"], figures["out_of_fold"]
    named = {**FIGURES, **rates}
    rows = [(words, figure_words(held[key]), figure_words(unseen[key])) for key, words in named.items()]
    return [*rows, ("cost a row", figure_words(held["cost"]["model"]), figure_words(unseen["cost"]["model"]))]


def _pictures(bundle: Bundle, finished: Study, rates: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs of a caption and the address of a plot."""
    figures = finished.figures
    held, unseen = figures["held_out"], figures["out_of_fold"]
    labels = {feature.name: feature.label for feature in bundle.schema.features}
    pictures = [
        ("How well it tells them apart (ROC)", plots.roc(held, unseen)),
        ("Whether a probability means what it says (calibration)", plots.calibration(held, unseen)),
        ("What decisions cost", plots.cost(held, unseen, finished.model.threshold)),
        ("What more rows would bring (learning curve)", plots.learning_curve(figures["learning_curve"])),
        ("What the trees look at (importance)", plots.importance(figures["importance"], labels)),
    ]
    pictures += [
        (f"Groups: {name}", plots.groups(parts, "refusal_rate", rates["refusal_rate"]))
        for name, parts in held["groups"].items()
    ]
    return pictures


def _groups(groups: Mapping[str, Any], rates: Mapping[str, str]) -> list[dict[str, Any]]:
    """A table for each group: of its parts the rows, the rate and what is decided."""
    keys = ("default_rate", "mean_probability", *rates)
    headings = ("rows", "observed rate", "mean probability", *rates.values())
    return [
        {
            "name": name,
            "headings": headings,
            "parts": [
                (label, f"{part['rows']:,}", *(figure_words(part[key]) for key in keys))
                for label, part in parts.items()
            ],
        }
        for name, parts in groups.items()
    ]
