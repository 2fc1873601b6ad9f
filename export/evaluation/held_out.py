"""`--evaluate FILE --target COLUMN`: how good a model is on rows it was not trained on, and its card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from export.errors import ExportRefused
from export.evaluation.by_limit import Masks, counts_by_limit
from export.evaluation.cost import Costs
from export.evaluation.evaluate import evaluate, one_decision, part_of_group, rounded
from export.evaluation.target import two_values
from export.forest.conversion import Conversion
from export.reading.observe import DataNames, read_data
from export.reading.table import DataTable, read_table
from server.model.bounds import Bounds
from server.model.bundle import Decision
from server.model.link import Margins
from server.model.schema import Feature, Matrix, Schema

_CARD = Path(__file__).with_name("card_template.md")
#: Fewer rows than this, or than this of one outcome, tell nothing.
LEAST_ROWS, LEAST_OUTCOMES = 20, 2


class HeldOut(NamedTuple):
    """The file to evaluate on, its column of outcomes, and which of two values is 1 where it must be said."""

    path: Path
    target: str
    positive: str | None


def evaluation(
    asked: HeldOut, conversion: Conversion, schema: Schema, decision: Decision | None, groups: Sequence[str]
) -> dict[str, Any]:
    """The member `evaluation` of a manifest: the figures of a task on the rows of a file.

    Raises `ExportRefused` for a file without the target, or whose rows tell nothing.
    """
    table = _with_target(asked, schema)
    column = table.columns[asked.target]
    kept = DataTable(table.path, table.columns.filter(column.is_not_null()), table.rules, table.notes)
    matrix = read_data(schema.features, kept).matrix
    matrix[Bounds(schema).bad(matrix)] = np.nan
    whole = np.ones(len(matrix), bool) if conversion.takes_missing else ~np.isnan(matrix).any(axis=1)
    column = kept.columns[asked.target].filter(polars.Series(whole))
    if len(column) < LEAST_ROWS:
        raise ExportRefused(
            f"expected at least {LEAST_ROWS} rows in {asked.path}, got {len(column)}: give more"
        )
    rows, outputs = matrix[whole], conversion.source.outputs(matrix[whole])
    if conversion.task == "binary":
        assert decision is not None
        return _binary(asked, column, rows, outputs, schema, decision, groups)
    if conversion.task == "multiclass":
        return {"classes": _classes(asked, column, outputs, conversion.classes)}
    return {"values": _values(asked, column, outputs)}


def _with_target(asked: HeldOut, schema: Schema) -> DataTable:
    names = DataNames(schema.features)
    table = read_table(asked.path, lambda column: column == asked.target or names(column) is not None)
    if asked.target not in table.columns.columns:
        raise ExportRefused(
            f"expected a column {asked.target} in {asked.path}, got "
            f"{', '.join(table.columns.columns)[:300]}: "
            "name one of these with --target"
        )
    return table


def _binary(
    asked: HeldOut,
    column: Any,
    rows: Matrix,
    scores: Margins,
    schema: Schema,
    decision: Decision,
    groups: Sequence[str],
) -> dict[str, Any]:
    target = two_values(column, asked.path, asked.positive, (decision.below, decision.otherwise))
    known = ~np.isnan(target.values)
    outcome, scores, rows = target.values[known], scores[known], rows[known]
    if min(outcome.sum(), (1 - outcome).sum()) < LEAST_OUTCOMES:
        raise ExportRefused(
            f"expected rows of both outcomes in {asked.path}, got too few of one: give more rows"
        )
    costs = Costs(decision.cost_false_negative or 1.0, decision.cost_false_positive or 1.0)
    inside = np.clip(scores, 1e-15, 1 - 1e-15)  # the log-odds of a certain score are not finite
    figures = evaluate(outcome, inside, decision.threshold, costs)
    parts = {
        name: _parts(schema[name], rows[:, schema.names.index(name)])
        for name in groups
        if name in schema.names
    }
    figures["groups"] = {
        name: {
            word: part_of_group(outcome[members], scores[members], decision.threshold)
            for word, members in masks.items()
            if members.any()
        }
        for name, masks in parts.items()
    }
    figures["groups_by_limit"] = counts_by_limit(outcome, scores, parts, decision.threshold)
    return {
        "held_out": figures,
        "threshold": {"chosen": decision.threshold, "analytic": costs.analytic_threshold},
        "file": {"name": asked.path.name, "target": asked.target, "positive": target.positive},
    }


def _parts(feature: Feature, values: Any) -> Masks:
    """The rows of each category, or of the quarters of a number."""
    if feature.kind == "category":
        parts = {word: values == code for code, word in enumerate(feature.categories)}
    else:
        known = values[~np.isnan(values)]
        ends = np.unique(np.quantile(known, [0.25, 0.5, 0.75])) if len(known) else known
        place = np.searchsorted(ends, values, side="right")
        words = [f"under {end:g}" for end in ends] + ([f"{ends[-1]:g} and over"] if len(ends) else [])
        parts = {word: (place == i) & ~np.isnan(values) for i, word in enumerate(words)}
    return parts | {"missing": np.isnan(values)}


def _classes(asked: HeldOut, column: Any, outputs: Margins, classes: Sequence[str]) -> dict[str, Any]:
    words = [str(word) for word in column.to_list()]
    if strange := sorted(set(words).difference(classes)):
        raise ExportRefused(
            f"expected {', '.join(classes)[:200]} in the column {asked.target}, got {strange[0]!r}: "
            "leave such rows out, or name the classes in their order with --classes"
        )
    true = np.array([classes.index(word) for word in words])
    # As scikit-learn's, which warns of probabilities in float32, whose sums are not 1 to the bit.
    of_true = np.clip(outputs[np.arange(len(true)), true], np.finfo(np.float64).eps, 1)
    figures = {
        "rows": len(true),
        "accuracy": float(np.mean(outputs.argmax(axis=1) == true)),
        "log_loss": float(-np.log(of_true).mean()),
    }
    return dict(rounded(figures))


def _values(asked: HeldOut, column: Any, outputs: Margins) -> dict[str, Any]:
    try:
        true = np.asarray([float(value) for value in column.to_list()])
    except (TypeError, ValueError):
        raise ExportRefused(
            f"expected numbers in the column {asked.target} of {asked.path}, got others"
        ) from None
    figures = {
        "rows": len(true),
        "mean_absolute_error": float(mean_absolute_error(true, outputs)),
        "root_mean_squared_error": float(np.sqrt(mean_squared_error(true, outputs))),
        "bias": float(np.mean(outputs - true)),
        "r2": float(r2_score(true, outputs)),
    }
    return dict(rounded(figures))


def warning(asked: HeldOut, figures: Mapping[str, Any], decision: Decision | None) -> str:
    """A sentence where every row was decided the same, "" otherwise."""
    if decision is None or "held_out" not in figures:
        return ""
    rows = f"rows of {asked.path.name} by the score"
    return one_decision(figures["held_out"], decision.below, decision.otherwise, rows)


def card(
    name: str,
    asked: HeldOut,
    figures: Mapping[str, Any],
    schema: Schema,
    source: Mapping[str, Any],
    warned: str = "",
) -> str:
    """The model card: what is known of a model that was trained elsewhere, and what somebody has to add.

    `warned` is the sentence of `warning`.
    """
    flat = figures.get("held_out") or figures.get("classes") or figures["values"]
    shown = {key: value for key, value in flat.items() if isinstance(value, int | float)}
    return _CARD.read_text().format(
        name=name,
        source=", ".join(f"{key} {value}" for key, value in source.items()),
        file=asked.path.name,
        target=asked.target,
        rows=flat["rows"],
        warning=f"\n**{warned}.**\n" if warned else "",
        figures="\n".join(f"| {key.replace('_', ' ')} | {value:.6g} |" for key, value in shown.items()),
        inputs="\n".join(
            f"| {f.label or f.name} | {f.form_kind} | {'yes' if f.nullable else 'no'} |"
            for f in schema.features
        ),
    )
