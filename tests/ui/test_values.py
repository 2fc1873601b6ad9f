from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.model.schema import Feature, Schema
from tests.support.browser import LOAN
from tests.support.bundles import sample_rows
from ui.words.values import body_of, format_number, parse_number, row_of, texts_of

#: Text and number, also tried on the page's own grammar in `test_page.py`.
WRITTEN: list[tuple[str, float | None]] = [
    ("0", 0),
    ("600000", 600_000),
    ("600,000", 600_000),
    ("600 000", 600_000),
    ("1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567", 1_234_567),
    ("1'234'567.5", 1_234_567.5),
    (" 0.51 ", 0.51),
    ("0,51", 0.51),
    (".5", 0.5),
    ("0,512", 0.512),
    ("1,5", 1.5),
    ("-12", -12),
    ("\N{MINUS SIGN}12", -12),
    ("1e3", 1000),
    ("007", 7),
    ("9007199254740993", 9007199254740992),
    ("1,23,456", None),
    ("1,234 567", None),
    ("12 34", None),
    ("1.2.3", None),
    ("1e999", None),
    ("nan", None),
    ("inf", None),
    ("1_000", None),
    ("0x10", None),
    ("٣", None),
    ("=1+1", None),
    ("9" * 10_000, None),
]


@pytest.mark.parametrize(("text", "number"), WRITTEN)
def test_numbers_are_read_as_people_write_them(text: str, number: float | None) -> None:
    assert parse_number(text) == number


@given(st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_formatted_number_reads_back_as_itself(number: float) -> None:
    assert parse_number(format_number(number)) == number


def test_every_row_survives_the_form() -> None:
    for row in sample_rows(LOAN, 1000):
        assert row_of(LOAN.features, texts_of(LOAN, row)) == row


@pytest.mark.parametrize("text", ["", "  ", "unknown", "Unknown"])
def test_unknown_is_left_out_of_the_row(text: str) -> None:
    assert row_of(LOAN.features, {"delay": text, "amount": "5"}) == {"amount": 5}


def test_zero_is_a_value() -> None:
    assert row_of(LOAN.features, {"delay": "0", "guarantor": "0", "school": "0"}) == {
        "delay": 0,
        "guarantor": 0,
        "school": "primary",
    }


@pytest.mark.parametrize("text", ["abc", "3", "-1", "1.5", "<script>", "\ud800", "9" * 10_000])
def test_what_is_no_value_is_left_to_the_schema_to_refuse(text: str) -> None:
    schema = Schema([Feature("school", "category", categories=("a", "b", "c"))])
    assert row_of(schema.features, {"school": text}) == {"school": text}


@given(st.dictionaries(st.sampled_from(LOAN.names), st.text()))
def test_any_text_becomes_a_body(texts: dict[str, str]) -> None:
    row: dict[str, Any] = row_of(LOAN.features, texts)
    assert orjson.loads(body_of(row)) == row
