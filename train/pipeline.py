"""Training from the first file to the written bundle, step by step."""

import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import orjson

from export.assemble import assemble
from server.model.bundle import CARD_FILE, REFERENCE_FILE, Bundle, Decision
from server.model.reference import Reference
from train.card import model_card
from train.cost import Costs
from train.data import Rows, Source, load
from train.examples import find_examples
from train.features import SCHEMA
from train.fit import FIXED, model_text
from train.french import TRANSLATIONS
from train.golden import golden_rows
from train.model import Model, Split, boosters, fit_model, split
from train.narrator import Narrator
from train.report import boosters_of_evaluation, evaluation
from train.synthetic_tables import write_tables
from train.target import check_target, writable
from train.tune import Tuned, tune

ACCEPT, REFUSE = "accept", "refuse"
#: What a page calls things.
WORDING = {
    "title": "Credit application",
    "probability": "risk of default",
    "case": "applicant",
    "missed": "a missed default",
    "false_alarm": "a good applicant refused",
}
_LIBRARIES = ("lightgbm", "numpy", "optuna", "polars", "scikit-learn", "scipy")


@dataclass(frozen=True)
class Request:
    """What to train on and how; `data` None asks for `clients` synthetic clients."""

    data: Path | None
    out: Path
    replace: bool
    name: str
    version: str
    trials: int
    seed: int
    costs: Costs
    clients: int
    runs: Path


def train(request: Request, narrator: Narrator) -> Bundle:
    """Train the credit model and write its bundle to `request.out`.

    Raises `DataError` for files that cannot be used, `TrainingRefused` for data
    no model can be learned from, `ExportRefused` if the graph is not equal to
    the model; the bundle is written whole or not at all. What would refuse it at
    the end is looked at first.
    """
    check_target(request.out, replace=request.replace)
    with _folder(request) as folder:
        rows, sources = load(folder)
    narrator.read(rows, sources)
    parts = split(rows, request.seed)
    tuned = _tune(request, parts.development, narrator)
    with narrator.boosters("fitting the model and its threshold", boosters(parts.development)) as fitted:
        model = fit_model(parts.development, tuned.parameters, request.costs, request.seed, fitted)
    with narrator.boosters("evaluating it, with and without gender", boosters_of_evaluation(parts)) as fitted:
        figures = evaluation(parts, model, request.costs, request.seed, fitted)
    narrator.evaluated(figures)
    with narrator.step("converting it and proving the graph equal"):
        provenance = _provenance(request, rows, sources, model, tuned)
        bundle = _assemble(request, parts, model, figures, provenance)
    narrator.written(bundle)
    return bundle


@contextmanager
def _folder(request: Request) -> Iterator[Path]:
    if request.data is not None:
        yield request.data
        return
    with tempfile.TemporaryDirectory(prefix="hotrow-synthetic-") as folder:
        write_tables(Path(folder), request.clients, request.seed)
        yield Path(folder)


def _tune(request: Request, rows: Rows, narrator: Narrator) -> Tuned:
    with narrator.trials(request.trials) as tell:
        return tune(
            rows, request.costs, seed=request.seed, trials=request.trials, folder=request.runs, tell=tell
        )


def _provenance(
    request: Request, rows: Rows, sources: list[Source], model: Model, tuned: Tuned
) -> dict[str, Any]:
    """What the model was made from. No time and no machine: the same run writes the same bytes."""
    complete = int(rows.complete.sum())
    return {
        "synthetic": request.data is None,
        "data": [asdict(source) for source in sources],
        "clients": {"complete": complete, "without_secondary_tables": len(rows) - complete},
        "seed": request.seed,
        "trials": tuned.trials,
        "pruned_trials": tuned.pruned,
        "parameters": {**FIXED, **model.parameters, "trees": model.trees},
        "tuned": dict(model.parameters),
        "libraries": {"python": platform.python_version(), **{name: installed(name) for name in _LIBRARIES}},
    }


def _assemble(
    request: Request, parts: Split, model: Model, figures: dict[str, Any], provenance: dict[str, Any]
) -> Bundle:
    text = model_text(model.booster)
    decision = Decision(
        threshold=model.threshold,
        below=ACCEPT,
        otherwise=REFUSE,
        cost_false_negative=request.costs.missed_default,
        cost_false_positive=request.costs.refused_good,
    )
    manifest = {
        "wording": WORDING,
        "translations": TRANSLATIONS,
        "evaluation": figures,
        "provenance": provenance,
        "examples": find_examples(model.probabilities, model.threshold),
    }
    files = {
        REFERENCE_FILE: orjson.dumps(_reference(parts, model).to_dict(), option=orjson.OPT_INDENT_2) + b"\n",
        CARD_FILE: model_card(figures, provenance, decision).encode(),
    }
    with writable(request.out):
        return assemble(
            request.out,
            model_text=text,
            schema=SCHEMA,
            name=request.name,
            version=request.version,
            decision=decision,
            golden=golden_rows(),
            manifest=manifest,
            files=files,
        )


def _reference(parts: Split, model: Model) -> Reference:
    """Of the complete clients only, whose missing values mean what a request's mean.

    Scores are out of fold: a booster's scores of its own training rows are spread
    wider than those it gives to strangers, and would look like drift.
    """
    features = parts.development.features[parts.development.complete]
    return Reference.from_rows(SCHEMA, features, model.out_of_fold.scores[0])
