"""A month of decisions and outcomes, with a fault in week three: to learn the commands by, and to test them.

Rows are drawn from the bundle's reference (`simulated_rows.py`); answers are the model's own. From 05:00 on
the fifteenth day one feature comes a hundredfold too small. In the second week a challenger scores beside.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from monitoring.errors import LogError
from monitoring.simulated_challenger import SimulatedChallenge, copy_bundle, write_challenger
from monitoring.simulated_rows import simulated_rows
from server.explain.importance import importance
from server.log.journal import LogJournal
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.model.schema import Matrix
from server.scoring.one_row import make_scorer

DAYS = 28
START = datetime(2026, 3, 2, tzinfo=UTC)
FAULT_BEGINS = START + timedelta(days=14, hours=5)
TOO_SMALL = 100.0
CHALLENGE = START + timedelta(days=7), START + timedelta(days=14)
_INSTANCE = "000000000001"


@dataclass(frozen=True)
class Month:
    """What was written: `feature` is what came too small from `FAULT_BEGINS` on.

    `served` is a copy of the bundle, `challenger` what scored beside it.
    """

    log: Path
    outcomes: Path
    served: Path
    challenger: Path
    rows: int
    feature: str


def simulate_month(bundle: Bundle, out: Path, rows_a_day: int = 1000) -> Month:
    """Write `out/logs`, `out/outcomes.csv`, and bundles, of a binary model; raises `LogError`.

    The outcome of who was accepted is drawn by the score of the true row, and comes four weeks later.
    """
    if bundle.task != "binary":
        raise LogError(f"expected a binary model, got {bundle.label}, a {bundle.task} model")
    log = out / "logs" / "predictions-8000-0.jsonl"
    if log.exists():
        raise LogError(f"expected a folder without a log, got {out}: name a new one")
    random = np.random.default_rng(1)
    rows = simulated_rows(bundle, rows_a_day * DAYS, random)
    feature = _fault(bundle, rows)
    log.parent.mkdir(parents=True, exist_ok=True)
    served = copy_bundle(bundle, out / "served")
    challenger = write_challenger(bundle, out / "challenger")
    beside = SimulatedChallenge(challenger, bundle.label)
    outcomes = _write(bundle, log, rows, feature, random, beside)
    beside.write(log.parent)
    file = out / "outcomes.csv"
    file.write_text("request_id,outcome,at\n" + "".join(outcomes), encoding="ascii")
    return Month(log.parent, file, served.directory, challenger.directory, len(rows), feature)


def _fault(bundle: Bundle, rows: Matrix) -> str:
    """The most important feature that the server takes, too, when it is a hundredfold too small."""
    weights = importance(Predictor(bundle), rows[:1000])
    for name in sorted(weights, key=lambda name: -weights[name]):
        feature, values = bundle.schema[name], rows[:, bundle.schema.names.index(name)]
        least = float(np.nanmin(values)) if not np.isnan(values).all() else np.nan
        if feature.kind == "number" and least > 0 and (feature.minimum or 0) <= least / TOO_SMALL:
            return name
    raise LogError(
        f"expected a number among the features of {bundle.label} that may be a hundredth, got none"
    )


def _write(
    bundle: Bundle,
    log: Path,
    rows: Matrix,
    feature: str,
    random: np.random.Generator,
    beside: SimulatedChallenge,
) -> list[str]:
    """Write the lines; the lines of the outcomes that came of them."""
    scorer = make_scorer(bundle, count=lambda *_: None)
    at, sent = bundle.schema.names.index(feature), list[bytes]()
    outcomes: list[str] = []
    with open(log, "wb") as file:
        for number, row in enumerate(rows):
            moment = START + timedelta(days=DAYS) * number / len(rows)
            risk = _answer(scorer.respond, bundle.schema.fields(row.tolist()), sent)["probability"]
            if moment >= FAULT_BEGINS:
                row = row.copy()
                row[at] /= TOO_SMALL
            fields = bundle.schema.fields(row.tolist())
            answer = _answer(scorer.respond, fields, sent)
            line = _line(answer, number, moment, fields)
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            if CHALLENGE[0] <= moment < CHALLENGE[1]:
                beside.score(line)
            if answer["decision"] == bundle.decision.below:
                defaulted = random.random() < risk
                outcomes.append(
                    f"month-{number},{defaulted:d},{moment + timedelta(days=28):%Y-%m-%dT%H:%M}\n"
                )
    journal = LogJournal(log)
    journal.began("opened", 1, {_INSTANCE: bundle.digest}, {})
    journal.closed([_INSTANCE], len(rows), 0)
    return outcomes


def _answer(answer: Any, fields: Mapping[str, Any], sent: list[bytes]) -> dict[str, Any]:
    answer(orjson.dumps(fields), sent.append, 0)
    content: dict[str, Any] = orjson.loads(sent.pop())
    return content


def _line(answer: dict[str, Any], number: int, moment: datetime, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The line that the server would have written."""
    begun = {"ts": f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"} | answer | {"id": f"{_INSTANCE}-{number + 1}"}
    usage = {"duration_us": 30.0 + number % 17, "cpu_percent": 2.0, "rss_mb": 80.0}
    return begun | {"request_id": f"month-{number}", "seq": number + 1, "input": fields} | usage
