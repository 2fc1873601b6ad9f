"""Models of other people's kinds, exported by the command and served: rows as trained, over HTTP."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import polars
import pytest

from export.arguments import parse
from export.command import export
from tests.support.compatibility import hold
from tests.support.foreign_models import ASKED, MODELS, Trained
from tests.support.servers import exchange, post, serving

#: As many as the kinds of rows need to be told apart; every family has a test of its own with more.
ORDINARY_ROWS = 300


def sent(rows: pd.DataFrame) -> list[bytes]:
    """The rows as JSON has them: a missing value is null."""
    records = rows.head(ASKED).astype(object).where(rows.notna(), None).to_dict("records")
    return [orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY) for record in records]


def in_batches(model: str, rows: list[bytes]) -> list[bytes]:
    """The same rows in one request of each form of a batch: JSON, CSV, Arrow, tensors."""
    frame = polars.DataFrame([orjson.loads(row) for row in rows], infer_schema_length=None)
    stream = io.BytesIO()
    frame.write_ipc_stream(stream)
    path, accept = f"/models/{model}/predict/batch", "Accept: application/json"
    tensors = [
        {
            "name": column.name,
            "shape": [len(column)],
            "datatype": {polars.String: "BYTES", polars.Boolean: "BOOL"}.get(type(column.dtype), "FP64"),
            "data": column.to_list(),
        }
        for column in frame
    ]
    return [
        post(path, b'{"rows":[' + b",".join(rows) + b"]}"),
        post(path, frame.write_csv().encode(), accept, content_type="text/csv"),
        post(path, stream.getvalue(), accept, content_type="application/vnd.apache.arrow.stream"),
        post(f"/v2/models/{model}/infer", orjson.dumps({"inputs": tensors})),
    ]


def outputs_of(answer: Any) -> list[Any]:
    """The numbers of a response to a batch, as they come."""
    if "outputs" in answer:
        return list(answer["outputs"][0]["data"])
    return list(np.ravel(answer.get("probabilities", answer.get("predictions"))))


def score_of(answer: Any) -> Any:
    """The number, or of classes the numbers, of a response to one row."""
    return answer[next(name for name in ("probability", "probabilities", "prediction") if name in answer)]


def differences(trained: Trained, predictions: list[Any], bound: float) -> list[str]:
    """What is wrong in the answers of one model, in words."""
    found = []
    for i, answer in enumerate(predictions):
        ours, theirs = np.asarray(score_of(answer)), np.asarray(trained.outputs[i], dtype=np.float64)
        if np.abs(ours - theirs).max() > bound * max(1.0, np.abs(theirs).max()):
            found.append(f"row {i}: {ours.tolist()} for {theirs.tolist()}")
        said = answer.get("decision", answer.get("prediction"))
        label = said if trained.outcomes is None else trained.outcomes[i]
        if said not in (label, {"0": "negative", "1": "positive"}.get(label)):
            found.append(f"row {i}: {said} for {label}")
    return found


@pytest.mark.whole
@pytest.mark.timeout(1200)  # 25 s of CPU, and the others of the machine decide how long that takes
def test_rows_as_trained_are_answered_as_the_library_answers_them(tmp_path: Path) -> None:
    made: dict[str, Trained] = {}
    folders: list[Path] = []
    for number, (make, _) in enumerate(MODELS.values()):
        folder = tmp_path / f"m{number}"
        folder.mkdir()
        trained = made[f"m{number}"] = make(folder)
        folders.append(folder / "bundle")
        arguments = [str(trained.path), "--out", str(folders[-1]), "--name", f"m{number}", *trained.options]
        export(parse(arguments), ordinary_rows=ORDINARY_ROWS)
    more = [word for folder in folders[1:] for word in ("--model", str(folder))]
    wrong: dict[str, list[str]] = {}
    with serving(folders[0], tmp_path, *more) as server:
        for (name, (_, bound)), (model, trained) in zip(MODELS.items(), made.items(), strict=True):
            bodies = [post(f"/models/{model}/predict", body) for body in sent(trained.rows)]
            predictions = exchange(server.url, *bodies)
            refused = [answer.body.decode() for answer in predictions if answer.status != 200]
            if refused:
                wrong[name] = refused
                continue
            singles = [orjson.loads(answer.body) for answer in predictions]
            wrong[name] = differences(trained, singles, bound)
            alone = np.ravel([score_of(single) for single in singles])
            for answer in exchange(server.url, *in_batches(model, sent(trained.rows))):
                together = (
                    outputs_of(orjson.loads(answer.body)) if answer.status == 200 else [np.nan] * alone.size
                )
                if not np.allclose(together, alone, rtol=bound, atol=bound):
                    wrong[name].append(f"in a batch: {answer.body[:200].decode()}")
    assert {name: faults[:3] for name, faults in wrong.items() if faults} == {}


def test_the_table_of_models_says_what_the_test_holds() -> None:
    rows = [
        [name, "equal to the bit" if bound == 0 else f"within {bound:g}"]
        for name, (_, bound) in MODELS.items()
    ]
    hold("Models", ["model", "answers to rows as trained, over HTTP"], rows)
