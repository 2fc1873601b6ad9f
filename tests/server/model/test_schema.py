import math
import tracemalloc
from typing import Any

import numpy as np
import orjson
import pytest

from server.errors import MAX_LISTED_ERRORS, MalformedBody, UnacceptableRow
from server.model.decoder import row_decoder
from server.model.schema import MAX_VALUES, Feature, Inferred, Schema, parse_object
from tests.support.bundles import ROW, THREE_FEATURES


def refusals(schema: Schema, fields: dict[str, object]) -> dict[str, str]:
    with pytest.raises(UnacceptableRow) as refusal:
        schema.encode(fields)
    return {error.pointer: error.detail for error in refusal.value.errors}


def test_row_is_float64_in_schema_order() -> None:
    row = np.frombuffer(THREE_FEATURES.encode({"owner": True, "income": 5, "contract": "none"}))
    assert row.tolist() == [5.0, 2.0, 1.0]


def test_absent_and_null_are_missing() -> None:
    absent = np.frombuffer(THREE_FEATURES.encode({"income": 5}))
    null = np.frombuffer(THREE_FEATURES.encode({"income": 5, "contract": None, "owner": None}))
    assert np.isnan(absent[1:]).all()
    assert np.isnan(null[1:]).all()


def test_every_bad_field_is_named_at_once() -> None:
    errors = refusals(THREE_FEATURES, {"contract": "Permanent", "owner": 2, "incom": 5})
    assert set(errors) == {"/contract", "/owner", "/incom", "/income"}
    assert errors["/income"] == "expected a number between 0 and 1000000, got nothing"


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ("nan", "got a string"),
        ("1.5", "got a string that holds a number: send it as a number, without quotes"),
        (" 7 ", "got a string that holds a number"),
        (True, "got a boolean"),
        ([1], "got an array of one value: send the value alone"),
        ({}, "got an object"),
        (None, "got null"),
        (-0.001, "outside"),
        (1e6 + 1, "outside"),
        (2**70, "outside"),
        (math.inf, "outside"),
        (math.nan, "outside"),
    ],
)
def test_number_refuses(value: object, detail: str) -> None:
    assert detail in refusals(THREE_FEATURES, ROW | {"income": value})["/income"]


def test_what_serialisers_write_for_a_missing_value_is_told_to_be_null() -> None:
    """R's NA, NaN and NULL, PHP's empty array; only of what may be missing."""
    values: list[object] = ["NA", "NaN", "", {}, []]
    for value in values:
        errors = refusals(THREE_FEATURES, {"income": value, "contract": value, "owner": value})
        assert [
            "send null for what is missing" in errors[f"/{name}"] for name in ("income", "contract", "owner")
        ] == [
            False,
            True,
            True,
        ]


@pytest.mark.parametrize("value", [2, -1, 0.5, "1", "true", [True]])
def test_flag_refuses_all_but_its_four_values(value: object) -> None:
    assert "/owner" in refusals(THREE_FEATURES, ROW | {"owner": value})


@pytest.mark.parametrize("value", ["", "None", "PERMANENT", 0, 1.0, True])
def test_category_refuses_all_but_its_texts(value: object) -> None:
    assert "/contract" in refusals(THREE_FEATURES, ROW | {"contract": value})


@pytest.mark.parametrize("value", [1.5, 2**53 + 2, "3", True, 11])
def test_integer_refuses(value: object) -> None:
    schema = Schema([Feature("children", "integer", minimum=0, maximum=10), Feature("n", "integer")])
    assert "/children" in refusals(schema, {"children": value})


def test_integer_takes_an_integral_float() -> None:
    """JSON has one number type: 3.0 is the integer 3."""
    assert np.frombuffer(Schema([Feature("children", "integer")]).encode({"children": 3.0})).tolist() == [3.0]


def test_integer_too_large_for_a_float_is_refused() -> None:
    assert "/n" in refusals(Schema([Feature("n")]), {"n": 10**400})


def test_values_are_not_repeated_in_an_error() -> None:
    secret = "4111-1111-1111-1111"
    assert secret not in str(refusals(THREE_FEATURES, ROW | {"contract": secret, "owner": secret}))


def test_pointer_escapes_slash_and_tilde() -> None:
    assert "/a~1b~0c" in refusals(THREE_FEATURES, ROW | {"a/b~c": 1})


def test_inferred_range_is_not_enforced() -> None:
    schema = Schema([Feature("x", inferred=Inferred("integer", 0, 1))])
    assert np.frombuffer(schema.encode({"x": 7.5})).tolist() == [7.5]


def test_fields_is_the_inverse_of_encode() -> None:
    row = {"income": 12.25, "contract": "none", "owner": 1}
    assert THREE_FEATURES.fields(np.frombuffer(THREE_FEATURES.encode(row)).tolist()) == row


def test_columns_are_encoded_like_rows() -> None:
    rows: list[dict[str, Any]] = [ROW, {"income": 1, "contract": None, "owner": 0}]
    columns = {name: [row[name] for row in rows] for name in THREE_FEATURES.names}
    matrix = THREE_FEATURES.encode_columns(columns)
    expected = np.array([np.frombuffer(THREE_FEATURES.encode(row)) for row in rows])
    assert matrix.tobytes() == expected.tobytes()


def test_bad_cell_of_a_column_is_named_by_row_and_feature() -> None:
    with pytest.raises(UnacceptableRow) as refusal:
        THREE_FEATURES.encode_columns({"income": [1, -1], "owner": [0, "x"]})
    assert {error.pointer for error in refusal.value.errors} == {"/1/income", "/1/owner"}


def test_feature_survives_the_manifest() -> None:
    for feature in THREE_FEATURES.features:
        assert Feature.from_dict(feature.to_dict()) == feature


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="unique"):
        Schema([Feature("x"), Feature("x")])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"{",
        b'{"a":1}x',
        b'{"a":NaN}',
        b'{"a":1e400}',
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        b"{'a':1}",
    ],
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="expected a JSON object"):
        parse_object(body)


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null", b"true"])
def test_json_that_is_no_object_is_unacceptable(body: bytes) -> None:
    with pytest.raises(UnacceptableRow, match="expected a JSON object"):
        parse_object(body)


def test_thousands_of_unknown_fields_are_counted_and_not_kept() -> None:
    with pytest.raises(UnacceptableRow, match="3,000 fields are") as refused:
        THREE_FEATURES.encode({"income": 1} | {f"x{i}": 1 for i in range(3000)})
    assert len(refused.value.errors) == MAX_LISTED_ERRORS


def test_refusal_names_some_of_thousands_of_categories() -> None:
    """The text is told again for each of many bad rows."""
    feature = Feature("city", kind="category", categories=tuple(f"city {i}" for i in range(20_000)))
    (words,) = refusals(Schema([feature]), {"city": "other"}).values()
    assert words.startswith('expected one of "city 0", "city 1"')
    assert words.endswith('"city 49" and 19950 more or null, got another string')


@pytest.mark.parametrize("value", [b"[]", b"{}", b"1", b'""', b"[[]]"])
def test_a_row_of_too_many_values_is_refused_and_none_of_them_made(value: bytes) -> None:
    """1 MiB holds 350,000 lists, which keep all others waiting while they are made."""
    body = b'{"a":[' + b",".join([value] * (MAX_VALUES + 2)) + b"]}"
    tracemalloc.start()
    try:
        with pytest.raises(UnacceptableRow, match=f"at most {MAX_VALUES} values"):
            parse_object(body)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(body) + 2**20
    finally:
        tracemalloc.stop()
    with pytest.raises(MalformedBody):
        parse_object(body[:-1])


def test_what_stands_in_texts_is_no_value() -> None:
    text = ",[{" * (MAX_VALUES + 1)
    assert parse_object(orjson.dumps({"a": text})) == {"a": text}
    wide = {f"x{i}": 1 for i in range(MAX_VALUES + 2)}
    assert parse_object(orjson.dumps(wide), len(wide)) == wide


def test_a_wide_row_is_no_row_of_too_many_values() -> None:
    schema = Schema([Feature(f"x{i}") for i in range(MAX_VALUES + 2)])
    body = orjson.dumps(dict.fromkeys(schema.names, 1.0))
    assert row_decoder(schema)(body) == schema.encode(orjson.loads(body))
