"""How large a client can make the line of its row, and what stays of the row."""

import json
from pathlib import Path

import pytest

from server.log.input import LoggedInput
from server.model.schema import Feature, Schema
from tests.support import patient
from tests.support.bundles import ROW, THREE_FEATURES
from tests.support.servers import serving

PADDED = {
    "blanks": json.dumps(ROW)[:-1] + " " * 50_000 + "}",
    "line breaks": json.dumps(ROW)[:-1] + "\r\n" * 25_000 + "}",
    "zeros": json.dumps(ROW).replace("2500.5", "2500.5" + "0" * 50_000),
    "members again": "{" + '"owner":0,' * 6_000 + json.dumps(ROW)[1:],
}


@pytest.mark.parametrize("kind", PADDED)
def test_padded_row_is_the_same_row_in_few_bytes(kind: str) -> None:
    logged = LoggedInput(THREE_FEATURES).of(PADDED[kind].encode())
    assert len(logged) < 200
    assert THREE_FEATURES.encode(json.loads(logged)) == THREE_FEATURES.encode(ROW)


def test_row_is_logged_as_it_came_up_to_what_its_schema_can_need() -> None:
    wide = Schema(Feature(f"a rather long name {i}") for i in range(500))
    text = json.dumps(dict.fromkeys(wide.names, 0.12345678901234568), indent=4).encode()
    assert len(text) > 20_000
    assert LoggedInput(wide).of(text) is text


@pytest.mark.parametrize("mode", ["async", "strict"])
def test_lines_are_short_whichever_way_padded_rows_come(three: Path, tmp_path: Path, mode: str) -> None:
    with serving(three, tmp_path, log_mode=mode) as subject, patient.client(base_url=subject.url) as http:
        alone = [
            http.post("/predict", content=body, headers={"Content-Type": "application/json"}).json()
            for body in PADDED.values()
        ]
        rows = ",".join(PADDED.values())
        http.post(
            "/predict/batch", content=f'{{"rows":[{rows}]}}', headers={"Content-Type": "application/json"}
        ).raise_for_status()
    (log,) = (tmp_path / "logs").glob("*.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert log.stat().st_size < 1000 * len(lines)
    assert [line["id"] for line in lines[:-1]] == [answer["id"] for answer in alone]
    logged = [line["input"] for line in lines[:-1]] + lines[-1]["input"]["rows"]
    assert [THREE_FEATURES.encode(row) for row in logged] == [THREE_FEATURES.encode(ROW)] * 8
