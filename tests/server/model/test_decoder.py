"""The fast decoders against `Schema.encode`, which says what is accepted."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.model.decoder import TYPED_DECODER_MAX_FEATURES, row_decoder
from server.model.schema import Feature, Schema, parse_object
from tests.fuzz.every_kind import EVERY_KIND
from tests.fuzz.targets import outcome
from tests.support.bundles import wide_schema

DECODE = row_decoder(EVERY_KIND)

#: Values near what each kind takes, and every other JSON type.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, 2, 20, 21, 2**53, 2**53 + 1, 1e6, 1.0, 1.5, -0.0, 1e300, 5e-324]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["a", "b", "permanent", "none", "", "nan", "1", "é", "permanent "]),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)
FIELDS = st.dictionaries(st.sampled_from([*EVERY_KIND.names, "unknown"]), VALUES)


@settings(max_examples=500)
@given(FIELDS)
def test_decoder_agrees_with_the_schema(fields: dict[str, Any]) -> None:
    valid = {"income": 1, "grade": "a"}
    try:
        body = orjson.dumps(valid | fields)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits
        import json

        body = json.dumps(valid | fields).encode()
    assert outcome(DECODE, body) == outcome(lambda b: EVERY_KIND.encode(parse_object(b)), body)


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_decoder_agrees_on_any_bytes(body: bytes) -> None:
    assert outcome(DECODE, body) == outcome(lambda b: EVERY_KIND.encode(parse_object(b)), body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"income":1,"grade":"a","income":2}',
        b'{"income":"x","grade":"a","income":2}',
        b'{"income":1,"grade":"\\u0061"}',
        b'{ "income" : 1 , "grade" : "a" }\n',
        b'{"income":1e0,"grade":"a","children":3.0}',
        b'{"income":1,"grade":"a","points":9007199254740993}',
        b'{"income":1,"grade":"a","free":123456789012345678901234567890}',
        b'{"income":1,"grade":"a","free":1e-400}',
        b'{"income":1,"grade":"a","contract":"\xff"}',
        b'{"income":1,"grade":"a","\xff":1}',
        b'{"income":1,"grade":"a","free":' + b"[" * 5000,
    ],
)
def test_decoder_agrees_on_odd_json(body: bytes) -> None:
    """Of a key that comes twice the last one counts, as in every JSON parser at hand."""
    assert outcome(DECODE, body) == outcome(lambda b: EVERY_KIND.encode(parse_object(b)), body)


def test_null_is_missing_on_the_fast_way_too() -> None:
    row = np.frombuffer(DECODE(b'{"income":1,"grade":"b","owner":null,"free":null}'))
    assert np.isnan(row[[2, 5]]).all()
    assert row[-1] == 1.0


def test_wide_schema_is_decoded_like_a_narrow_one() -> None:
    schema = wide_schema(TYPED_DECODER_MAX_FEATURES + 1)
    row = np.frombuffer(row_decoder(schema)(b'{"x3":0.5,"x60":null}'))
    assert row[3] == 0.5
    assert np.isnan(np.delete(row, 3)).all()


def test_names_that_are_no_identifiers_are_decoded() -> None:
    schema = Schema([Feature("loan amount"), Feature("class"), Feature("_x"), Feature("a.b")])
    row = np.frombuffer(row_decoder(schema)(b'{"loan amount":1,"class":2,"_x":3,"a.b":4}'))
    assert row.tolist() == [1.0, 2.0, 3.0, 4.0]
