"""Training on a table of one's own, from the file to the written bundle and its report."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from export.assemble import write_conversion
from export.evaluation.evaluate import one_decision
from export.lightgbm.model import convert_lightgbm
from export.reading.description import CARRIED, check_examples, check_names, checked_policy, reasons_of
from export.reading.usual import with_limits
from server.model.bundle import CARD_FILE, REFERENCE_FILE, Bundle, Decision
from server.model.schema import Feature
from train.examples import choose
from train.own_table import Asked, OwnTable, load_table
from train.study.fit import model_text
from train.study.html_report import write_report
from train.study.narrator import Narrator
from train.study.seeds import EXAMPLES, derived
from train.study.study import Recipe, Study, check_recipe, decision, provenance, reference, searched, study
from train.study.target import writable
from train.study.tracking import track
from train.tables.rows import Rows

CARD = Path(__file__).with_name("own_card_template.md")
_DRAWN = 2000
#: A figure of somebody's own has more digits than anybody would make up.
_DIGITS = 3


def train_table(asked: Asked, recipe: Recipe, narrator: Narrator) -> Bundle:
    """Train on a table and write its bundle to the recipe's `out`, and a report.

    Raises `DataError` or `ExportRefused` for a table that cannot be used and
    `TrainingRefused` for rows no model can be learned from; the bundle is written
    whole or not at all. What would refuse it at the end is looked at first.
    """
    check_recipe(recipe)
    table = load_table(asked)
    rows = table.rows
    if policy := asked.document.get("policy"):
        policy = with_limits(policy, rows.inputs.schema.features, rows.features)
        asked = replace(asked, document={**asked.document, "policy": policy})
    _check_description(asked, rows)
    narrator.say(f"read {asked.path.name}: {len(rows):,} rows, {len(rows.inputs.schema)} features")
    narrator.say(f"{rows.target.mean():.2%} have {asked.target} {table.positive}")
    for note in table.notes:
        narrator.say(note)
    done = study(rows, recipe, narrator)
    rates = _rates(asked)
    narrator.evaluated(done.figures, rates)
    if warned := _warning(asked, done):
        narrator.say(f"{warned}.")
    source = {"file": asked.path.name, "sha256": table.sha256, "rows": len(rows), "notes": table.notes}
    made_from = provenance(done, recipe, data=[source], target=asked.target, positive=table.positive)
    with narrator.step("converting it and proving the graph equal"):
        bundle = _write(asked, table, recipe, done, made_from)
    write_report(recipe.report, bundle, done, made_from, rates)
    track(recipe, bundle, done)
    narrator.written(bundle, recipe.report)
    return bundle


def _check_description(asked: Asked, rows: Rows) -> None:
    """Raise `ExportRefused` for a description that would refuse the bundle once everything is trained."""
    schema = rows.inputs.schema
    check_examples(asked.document, schema)
    check_names(asked.document, schema)
    below, otherwise = asked.decisions
    checked_policy(asked.document, Decision(below=below, otherwise=otherwise), schema)


def _rates(asked: Asked) -> dict[str, str]:
    """What the rates of `evaluate.decisions` are called."""
    below, otherwise = asked.decisions
    return {
        "refusal_rate": f"decided {otherwise}",
        "false_positive_rate": f"decided {otherwise}, of the others",
        "false_negative_rate": f"decided {below}, of those with it",
    }


def _warning(asked: Asked, done: Study) -> str:
    """A sentence where all held-out rows, or all that the threshold was chosen on, are decided the same."""
    parts = (("held_out", "held-out rows"), ("out_of_fold", "rows of training"))
    below, otherwise = asked.decisions
    said = (one_decision(done.figures[part], below, otherwise, rows) for part, rows in parts)
    return next(filter(None, said), "")


def _write(asked: Asked, table: OwnTable, recipe: Recipe, done: Study, made_from: dict[str, Any]) -> Bundle:
    schema = table.rows.inputs.schema
    below, otherwise = asked.decisions
    chosen = decision(done.model, recipe.costs, below, otherwise)
    wording = {"title": recipe.name, "probability": f"probability of {asked.target} {table.positive}"}
    manifest = {
        "evaluation": done.figures,
        "provenance": made_from,
        "examples": _examples(table.rows, done, recipe.seed),
        **{key: asked.document[key] for key in CARRIED if asked.document.get(key)},
        "wording": {**wording, **(asked.document.get("wording") or {})},
    }
    if reasons := reasons_of(asked.document, schema.names):
        manifest["reasons"] = reasons
    chosen = checked_policy(manifest, chosen, schema) or chosen
    files = {
        REFERENCE_FILE: reference(done),
        CARD_FILE: _card(asked, table, done, made_from, chosen).encode(),
    }
    with writable(recipe.out):
        return write_conversion(
            recipe.out,
            convert_lightgbm(model_text(done.model.booster)).named(schema.names),
            schema=schema,
            name=recipe.name,
            version=recipe.version,
            decision=chosen,
            manifest=manifest,
            files=files,
        )


def _examples(rows: Rows, done: Study, seed: int) -> list[dict[str, Any]]:
    """Made-up rows: each value is one of its column, rounded; no row of them is anybody's."""
    random = np.random.default_rng(derived(seed, EXAMPLES))
    schema = rows.inputs.schema
    columns = [column[~np.isnan(column)] for column in rows.features.T]
    drawn = np.column_stack([random.choice(column, _DRAWN) for column in columns])
    encoded = np.column_stack([_rounded(f, drawn[:, i]) for i, f in enumerate(schema.features)])
    fields = [schema.fields(row.tolist()) for row in encoded]
    return choose(fields, done.model.probabilities(encoded), done.model.threshold)


def _rounded(feature: Feature, values: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    if feature.kind == "category" or feature.form_kind in ("flag", "integer"):
        return values
    with np.errstate(divide="ignore"):
        decimals = _DIGITS - 1 - np.floor(np.log10(np.abs(values)))
    scale = 10.0 ** np.where(np.isfinite(decimals), np.clip(decimals, -12, 12), 0.0)
    low, high = feature.range
    return np.clip(np.round(values * scale) / scale, low, high)


def _cell(text: str) -> str:
    """A text in a table of Markdown, whose cells are parted by `|` and whose rows are lines."""
    return " ".join(text.split()).replace("|", "\\|")


def _card(asked: Asked, table: OwnTable, done: Study, made_from: dict[str, Any], chosen: Decision) -> str:
    inputs = "\n".join(
        f"| {_cell(f.label or f.name)} | {f.form_kind} | {'yes' if f.nullable else 'no'} |"
        for f in table.rows.inputs.schema.features
    )
    return CARD.read_text().format(
        figures=done.figures,
        held=done.figures["held_out"],
        unseen=done.figures["out_of_fold"],
        threshold=done.figures["threshold"],
        provenance=made_from,
        searched=searched(made_from),
        source=made_from["data"][0],
        decision=chosen,
        target=asked.target,
        positive=table.positive,
        inputs=inputs,
        warning=f"\n**{warned}.**\n" if (warned := _warning(asked, done)) else "",
        parameters="\n".join(f"| `{name}` | {value:.5g} |" for name, value in made_from["tuned"].items()),
        libraries=", ".join(f"{name} {version}" for name, version in made_from["libraries"].items()),
    )
