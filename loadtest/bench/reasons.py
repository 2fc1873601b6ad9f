"""`python -m loadtest bench reasons`: what reasons cost beside the answer alone, and what recourse does.

In turns within one run: `/predict` and `/predict?reasons=4` over one connection, of a row
that is refused, and `/recourse` of 250 such rows, if the model marks what can be changed; and in one
thread the rows a second whose reasons are computed and worded.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson

from loadtest.bench.rows import RowsClient, print_percentiles, seconds, times_in_turn
from loadtest.harness.bodies import golden_matrix
from loadtest.harness.target import add_model, serving
from server.explain.explainer import Explainer
from server.explain.reasons import MAX_PRINCIPAL, ReasonTexts
from server.explain.recourse import Recourse
from server.model.bundle import Bundle
from server.model.predictor import Predictor

REQUESTS = 4000
ROWS = 20_000
REFUSED = 250


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)


def main(options: argparse.Namespace) -> int:
    """Print the percentiles and the rate."""
    bundle = Bundle.load(options.model)
    _print_rate(bundle)
    with tempfile.TemporaryDirectory() as folder, serving(options.model, Path(folder)) as subject:
        _print_requests(bundle, subject.url)
        _print_recourse(bundle, subject.url)
    return 0


def _print_recourse(bundle: Bundle, url: str) -> None:
    """What `/recourse` takes, and for how many of refused golden rows it has something."""
    predictor = Predictor(bundle)
    if bundle.task != "binary" or not Recourse(bundle, predictor, Explainer(bundle, predictor)).actionable:
        return
    matrix = golden_matrix(bundle, ROWS)
    outputs = predictor.output_array(predictor.margins(matrix))
    refused = matrix[predictor.outcomes(outputs, matrix) != 0][:REFUSED]
    times, helped = [], 0
    for values in refused.tolist():
        body = orjson.dumps(bundle.schema.fields(values))
        client = RowsClient(url, "/recourse", body, {"Content-Type": "application/json"})
        helped += bool(orjson.loads(client.ask())["proposals"])
        times.append(seconds(client.ask))
    print_percentiles("/recourse", times)
    print(f"something to change for {helped} of {len(refused)} refused rows")


def _print_requests(bundle: Bundle, url: str) -> None:
    predict = Predictor(bundle).predict
    refused = next(g.fields for g in bundle.golden_rows() if predict(bundle.schema.encode(g.fields))[1])
    body, headers = orjson.dumps(refused), {"Content-Type": "application/json"}
    calls = {
        path: RowsClient(url, path, body, headers).ask
        for path in ("/predict", f"/predict?reasons={MAX_PRINCIPAL}", "/explain")
    }
    for path, times in times_in_turn(calls, REQUESTS).items():
        print_percentiles(path, times)


def _print_rate(bundle: Bundle) -> None:
    predictor = Predictor(bundle)
    explainer, texts = Explainer(bundle, predictor), ReasonTexts(bundle)
    rows = golden_matrix(bundle, ROWS)
    margins = predictor.margins(rows)
    began = time.process_time()
    terms = explainer.terms_of(rows, margins)
    computed = time.process_time() - began
    for values, added in zip(rows.tolist(), terms[:, :-1].tolist(), strict=True):
        orjson.dumps(texts.principal(values, added, MAX_PRINCIPAL))
    whole = time.process_time() - began
    largest = float(np.abs(terms.sum(axis=1) - margins).max())
    print(
        f"{ROWS / whole:,.0f} rows a second and core with {MAX_PRINCIPAL} reasons in words "
        f"({ROWS / computed:,.0f} contributions alone); sums within {largest:.1e} of the margins"
    )
