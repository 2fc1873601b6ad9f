"""MODEL_CARD.md: what the model is, how good, for whom, and for whom not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from server.model.bundle import Decision
from train.study.study import searched
from train.tables.features import MISSING, MONOTONE, SCHEMA

Figures = Mapping[str, Any]

TEMPLATE = Path(__file__).with_name("card_template.md")
_SYNTHETIC = "invented ones, drawn from statistics of the Home Credit Default Risk clients"
_FURTHER_CLIENTS = (
    "\n\n{:,} further clients of the sample, whose credit bureau and credit card tables were not looked up, "
    "were learned from and never evaluated on. To the model a missing credit history therefore means that "
    "none is known, for whichever reason."
)
_GROUP_COLUMNS = (
    "group",
    "clients",
    "had difficulties",
    "mean probability",
    "refused",
    "refused of the paying",
    "accepted of the others",
)


def model_card(figures: Figures, provenance: Figures, decision: Decision, policy: Figures) -> str:
    """The card of a trained bundle, with the front matter Hugging Face reads.

    `figures` is `report.evaluation`'s result, `provenance` and `policy` the manifest's members.
    """
    held, unseen = figures["held_out"], figures["out_of_fold"]
    synthetic = provenance["synthetic"]
    return TEMPLATE.read_text().format(
        front_matter=_front_matter(held, synthetic),
        inputs=len(SCHEMA),
        held=held,
        unseen=unseen,
        recipe=figures["recipe"],
        threshold=figures["threshold"],
        decision=decision,
        provenance=provenance,
        searched=searched(provenance),
        policy=policy,
        missing=", ".join(f"`{name}`" for name in MISSING),
        source=_SYNTHETIC if synthetic else _files(provenance["data"]),
        with_rows=_with_rows(provenance["data"]),
        population="invented clients" if synthetic else "clients of one lender in one period",
        learned=provenance["clients"]["complete"] - held["rows"],
        further_clients=_further_clients(provenance["clients"]["without_secondary_tables"]),
        held_groups=_group_table(held["groups"]),
        unseen_groups=_group_table(unseen["groups"]),
        rising=_monotone(1),
        falling=_monotone(-1),
        parameters="\n".join(f"| `{name}` | {value:.5g} |" for name, value in provenance["tuned"].items()),
        libraries=", ".join(f"{name} {version}" for name, version in provenance["libraries"].items()),
    )


def _front_matter(held: Figures, synthetic: bool) -> str:
    """YAML as Hugging Face's model cards want it; each value is JSON, which is YAML."""
    name = "Home Credit Default Risk" + (" (synthetic)" if synthetic else "")
    result = {
        "task": {"type": "tabular-classification"},
        "dataset": {"type": "home-credit-default-risk", "name": name},
        "metrics": [
            {"type": "roc_auc", "value": held["auc"], "name": "ROC AUC on held-out clients"},
            {"type": "brier_score", "value": held["brier"], "name": "Brier score on held-out clients"},
        ],
    }
    fields = {
        "language": ["en"],
        "license": "apache-2.0",
        "library_name": "lightgbm",
        "pipeline_tag": "tabular-classification",
        "tags": ["credit-scoring", "lightgbm", "onnx"],
        "model-index": [{"name": "credit", "results": [result]}],
    }
    return "\n".join(f"{field}: {orjson.dumps(value).decode()}" for field, value in fields.items())


def _files(sources: Sequence[Figures]) -> str:
    files = (f"`{source['file']}` (SHA-256 `{source['sha256'][:12]}`)" for source in sources)
    return f"those of the files {', '.join(files)}"


def _with_rows(sources: Sequence[Figures]) -> str:
    """Of how many clients each secondary table has rows."""
    return " and ".join(f"{source['clients']:,} have rows in `{source['file']}`" for source in sources[1:3])


def _further_clients(count: int) -> str:
    return _FURTHER_CLIENTS.format(count) if count else ""


def _monotone(sign: int) -> str:
    return ", ".join(f"`{name}`" for name, direction in MONOTONE.items() if direction == sign)


def _group_table(groups: Figures) -> str:
    header = [f"| {' | '.join(_GROUP_COLUMNS)} |", "| --- " * len(_GROUP_COLUMNS) + "|"]
    lines = [_group_line(label, group) for kind in groups.values() for label, group in kind.items()]
    return "\n".join(header + lines)


def _group_line(label: str, group: Figures) -> str:
    return (
        f"| {label} | {group['rows']:,} | {group['defaults']} ({group['default_rate']:.1%}) "
        f"| {group['mean_probability']:.1%} | {_share(group['refusal_rate'])} "
        f"| {_share(group['false_positive_rate'])} | {_share(group['false_negative_rate'])} |"
    )


def _share(rate: float | None) -> str:
    return "none there" if rate is None else f"{rate:.1%}"
