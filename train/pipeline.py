"""Training the credit model from the first file to the written bundle, step by step."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.assemble import write_conversion
from export.lightgbm.model import convert_lightgbm
from server.model.bundle import CARD_FILE, REFERENCE_FILE, Bundle
from train.card import model_card
from train.examples import find_examples
from train.french import TRANSLATIONS
from train.golden import golden_rows
from train.policy import policy
from train.reasons import REASONS
from train.study.fit import model_text
from train.study.html_report import write_report
from train.study.narrator import Narrator
from train.study.study import Recipe, Study, check_recipe, decision, provenance, reference, study
from train.study.target import writable
from train.study.tracking import track
from train.synthetic_tables import write_tables
from train.tables.data import TableSource, load
from train.tables.features import CONTEXT, DESCRIBED
from train.tables.rows import Rows

ACCEPT, REFUSE = "accept", "refuse"
#: What a page calls things.
WORDING = {
    "title": "Credit application",
    "probability": "risk of default",
    "case": "applicant",
    "missed": "a missed default",
    "false_alarm": "a good applicant refused",
}
#: What the terminal calls the rates of `evaluate.decisions`.
RATES = {
    "refusal_rate": "refused",
    "false_positive_rate": "paying clients refused",
    "false_negative_rate": "defaulting clients accepted",
}


@dataclass(frozen=True)
class Request:
    """What to train on and how; `data` None asks for `clients` synthetic clients."""

    recipe: Recipe
    data: Path | None
    clients: int


def train(request: Request, narrator: Narrator) -> Bundle:
    """Train the credit model and write its bundle to the recipe's `out`.

    Raises `DataError` for files that cannot be used, `TrainingRefused` for data
    no model can be learned from, `ExportRefused` if the graph is not equal to
    the model; the bundle is written whole or not at all. What would refuse it at
    the end is looked at first.
    """
    recipe = request.recipe
    check_recipe(recipe)
    with _folder(request) as folder:
        rows, sources = load(folder)
    narrator.read(rows, sources)
    done = study(rows, recipe, narrator)
    narrator.evaluated(done.figures, RATES)
    made_from = _provenance(request, rows, sources, done)
    with narrator.step("converting it and proving the graph equal"):
        bundle = _assemble(recipe, done, made_from)
    write_report(recipe.report, bundle, done, made_from, RATES)
    track(recipe, bundle, done)
    narrator.written(bundle, recipe.report)
    return bundle


@contextmanager
def _folder(request: Request) -> Iterator[Path]:
    if request.data is not None:
        yield request.data
        return
    with tempfile.TemporaryDirectory(prefix="hotrow-synthetic-") as folder:
        write_tables(Path(folder), request.clients, request.recipe.seed)
        yield Path(folder)


def _provenance(request: Request, rows: Rows, sources: list[TableSource], done: Study) -> dict[str, Any]:
    complete = int(rows.complete.sum())
    return provenance(
        done,
        request.recipe,
        synthetic=request.data is None,
        data=[asdict(source) for source in sources],
        clients={"complete": complete, "without_secondary_tables": len(rows) - complete},
    )


def _assemble(recipe: Recipe, done: Study, made_from: dict[str, Any]) -> Bundle:
    model = done.model
    chosen = decision(model, recipe.costs, ACCEPT, REFUSE)
    decides = policy(done.parts.development, model.threshold)
    manifest = {
        "wording": WORDING,
        "translations": TRANSLATIONS,
        "reasons": REASONS,
        "context": CONTEXT,
        "policy": decides,
        "evaluation": done.figures,
        "provenance": made_from,
        "examples": find_examples(model.probabilities, model.threshold),
    }
    files = {
        REFERENCE_FILE: reference(done),
        CARD_FILE: model_card(done.figures, made_from, chosen, decides).encode(),
    }
    with writable(recipe.out):
        return write_conversion(
            recipe.out,
            convert_lightgbm(model_text(model.booster)),
            schema=DESCRIBED,
            name=recipe.name,
            version=recipe.version,
            decision=chosen,
            golden=golden_rows(),
            manifest=manifest,
            files=files,
        )
