"""A search for a differing bit: models drawn at random, exported from their files (`make fuzz-bits`)."""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from export.assemble import write_conversion
from export.errors import ExportRefused
from export.forest.evidence import Evidence
from export.load import LoadOptions, load
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support.random_models import DRAWN, NUMBERS

pytestmark = pytest.mark.whole

#: Models drawn in the suite; with the variable set, as many as the seconds allow.
MODELS = 4
SECONDS = float(os.environ.get("FUZZ_BITS_SECONDS", "0"))
#: What may be refused, by the words of the refusal.
MAY_BE_REFUSED = (
    "expected the names of XGBoost's categories",  # it cuts what is not ASCII
    "expected the same categories of",  # a fold lacks a rare category
    "zero_as_missing=true in a part",
    "expected a finite number from the model, got inf",  # an exponential of a model that diverged
    "expected a LightGBM model with trees, got one without any",
)


def seeds() -> Iterator[int]:
    """Seeds: a few in the suite, and as many as fit into FUZZ_BITS_SECONDS, shared by the families."""
    ends, seed = time.monotonic() + SECONDS / len(DRAWN), int(os.environ.get("FUZZ_BITS_SEED", "0"))
    first = seed
    while seed < first + MODELS or time.monotonic() < ends:
        yield seed
        seed += 1


@pytest.mark.timeout(SECONDS * 2 + 300)
@pytest.mark.parametrize("family", DRAWN)
def test_no_drawn_model_differs_by_a_bit(family: str, tmp_path: Path) -> None:
    draw, bound = DRAWN[family]
    counts: Counter[str] = Counter()
    for seed in seeds():
        random = np.random.default_rng(seed)
        name, content = draw(random)
        (tmp_path / name).write_bytes(content)
        try:
            bundle = exported(tmp_path / name, tmp_path / "bundle")
        except ExportRefused as refusal:
            if not any(words in str(refusal) for words in MAY_BE_REFUSED):
                pytest.fail(f"{family} {seed}: {refusal}")
            counts["refused"] += 1
            continue
        report = bundle.read_json("parity.json")
        rows, found = report["rows"], report["total"]["max_margin_difference"]
        assert found <= bound, (family, seed, found)
        assert rows["max_relative_difference"] <= max(bound, 1e-11), (family, seed, rows)
        check_order(Predictor(bundle), random, (family, seed))
        counts["equal"] += 1
    if SECONDS:
        print(f"{family}: {dict(counts)}", file=sys.stderr)


def exported(file: Path, out: Path) -> Bundle:
    numbers = Evidence(dict.fromkeys(NUMBERS, "number"))  # LightGBM's files do not say that
    conversion = load(file, LoadOptions(trust_pickle=True, evidence=numbers))
    return write_conversion(
        out, conversion, schema=conversion.schema, name="model", version="1", ordinary_rows=1000
    )


def check_order(predictor: Predictor, random: np.random.Generator, where: tuple[str, int]) -> None:
    """Rows in another order and in other batches have the margins they had."""
    if not predictor.bundle.exact:
        return
    fields = predictor.bundle.golden_fields()
    rows = np.array([np.frombuffer(predictor.bundle.schema.encode(row)) for row in fields])
    expected = predictor.margins(rows)
    order = random.permutation(len(rows))
    cuts = np.sort(random.integers(0, len(rows), 5))
    parts = [predictor.margins(part) for part in np.split(rows[order], cuts) if len(part)]
    assert np.array_equal(np.concatenate(parts), expected[order], equal_nan=True), where
