"""Looks at JSON before it is parsed, against what Python's parser finds."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.model import json_text
from server.model.json_text import count_of, has_more, nan_as_null

TEXTS = st.text(alphabet='aN"\\{},[]é\u2028n', max_size=12)
VALUES = st.recursive(
    st.none() | st.just(float("nan")) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@pytest.fixture(params=[1, 7, 2**17], autouse=True, scope="module")
def chunk_bytes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Chunks so small that everything lies across their edges, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "CHUNK_BYTES", request.param)
        yield


def _nulls(value: object) -> object:
    """A value with None for each NaN."""
    if isinstance(value, list):
        return [_nulls(element) for element in value]
    if isinstance(value, dict):
        return {name: _nulls(element) for name, element in value.items()}
    return None if value != value else value


def _objects(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, dict) + sum(map(_objects, inner))


@given(VALUES, st.booleans())
def test_nan_is_null_but_not_in_strings(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert json.loads(nan_as_null(text)) == _nulls(value)


@given(VALUES)
def test_objects_are_counted_but_not_in_strings(value: object) -> None:
    text, count = json.dumps(value).encode(), _objects(value)
    assert not has_more(text, b"{", count)
    assert count == 0 or has_more(text, b"{", count - 1)


@pytest.mark.parametrize("length", [0, 1, json_text.CHUNK_BYTES, 2 * json_text.CHUNK_BYTES + 5])
def test_a_character_is_counted_as_bytes_count_it(length: int) -> None:
    text = (b"{ab{" * length)[:length]
    assert count_of(text, b"{") == text.count(b"{")


@pytest.mark.parametrize("text", [b'"NaN', b'NaN"\\', b"NaN\\NaN", b"\0NaN", b'"\\'])
def test_what_is_no_json_stays_none(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        json.loads(nan_as_null(text).decode(), parse_constant=pytest.fail)
