"""A bundle with a reference, and traffic for it, for the tests of monitoring."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from export.assemble import assemble
from server.bundle import Bundle, Decision
from server.predictor import Predictor
from server.reference import Reference
from server.schema import Schema
from tests.bundles import THREE_FEATURES, sample_rows, three_feature_bundle
from tests.servers import address


def monitored_bundle(
    out: Path, version: str = "1", trees: int = 20, schema: Schema = THREE_FEATURES
) -> Bundle:
    """The three-feature bundle with a reference of 4,000 rows of `sample_rows`."""
    rows = sample_rows(THREE_FEATURES, 4000, seed=7)
    matrix = np.array([np.frombuffer(THREE_FEATURES.encode(row)) for row in rows])
    plain = three_feature_bundle(out.with_name(out.name + "-plain"), version, trees)
    predictor = Predictor(plain)
    scores = np.array(predictor.outputs(predictor.margins(matrix)))
    reference = Reference.from_rows(THREE_FEATURES, matrix, scores)
    return assemble(
        out,
        model_text=(plain.directory / "model.txt").read_text(encoding="utf-8"),
        schema=schema,
        name="three",
        version=version,
        decision=Decision(0.4, "grant", "decline", 5.0, 1.0),
        golden=rows[:200],
        files={"reference.json": orjson.dumps(reference.to_dict())},
    )


class Load:
    """Clients that send rows over kept connections until they are told to stop.

    `answers` are (id, probability, monotonic time) of every 200 that was read in
    full, `statuses` what came, `broken` how often a connection failed.
    """

    def __init__(self, url: str, rows: Sequence[dict[str, Any]], clients: int = 4) -> None:
        self.answers: list[tuple[str, float, float]] = []
        self.statuses: Counter[int] = Counter()
        self.broken = 0
        self._url = url
        self._bodies = [json.dumps(row).encode() for row in rows]
        self.scored: list[tuple[int, str, float]] = []  # which row, by which model, and its probability
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i, clients)) for i in range(clients)]

    def _run(self, first: int, step: int) -> None:
        place = first
        while not self._stop.is_set():
            connection = http.client.HTTPConnection(*address(self._url), timeout=20)
            try:
                while not self._stop.is_set():
                    body = self._bodies[place % len(self._bodies)]
                    connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    content = answer.read()
                    self.statuses[answer.status] += 1
                    if answer.status == 200:
                        found = json.loads(content)
                        self.answers.append((found["id"], found["probability"], time.monotonic()))
                        self.scored.append((place % len(self._bodies), found["model"], found["probability"]))
                    place += step
            except (OSError, http.client.HTTPException):
                self.broken += 1
                time.sleep(0.02)
            finally:
                connection.close()

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send no more and wait for what is under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, answers: int, seconds: float = 30.0) -> None:
        """Wait until so many answers have come."""
        end = time.monotonic() + seconds
        while len(self.answers) < answers and time.monotonic() < end:
            time.sleep(0.01)
        assert len(self.answers) >= answers


@contextmanager
def load(url: str, rows: Sequence[dict[str, Any]], clients: int = 4) -> Iterator[Load]:
    """Load for as long as the context lasts."""
    clients_ = Load(url, rows, clients)
    clients_.start()
    try:
        yield clients_
    finally:
        clients_.stop()


def send_all(url: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send each row once over one connection; the answers in order, all of them 200."""
    connection = http.client.HTTPConnection(*address(url), timeout=20)
    answers = []
    for row in rows:
        connection.request("POST", "/predict", json.dumps(row).encode(), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        answers.append(json.loads(content))
    connection.close()
    return answers


def scrape(url: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a metrics page, by name and labels."""
    from prometheus_client.parser import text_string_to_metric_families

    connection = http.client.HTTPConnection(*address(url), timeout=20)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, text
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def total(samples: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    """The sum of one metric's samples that have these labels."""
    wanted = set(labels.items())
    return sum(value for (found, has), value in samples.items() if found == name and wanted <= has)


def logged(folder: Path) -> list[dict[str, Any]]:
    """Every line of the logs in a folder."""
    files = sorted(folder.glob("*.jsonl"))
    return [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]
