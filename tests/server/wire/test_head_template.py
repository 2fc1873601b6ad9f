"""Heads with values that change with every request: known by their other parts, and by nothing less."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.wire.eligible_head import eligible_head
from server.wire.fast_path import MAX_TEMPLATES, Endpoint, FastPath
from server.wire.head_template import template_of

TARGET = Endpoint(lambda *_: None, lambda _: None)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def head(length: str = "65", trace: str = TRACE, request: str = "1", last: str = "Accept: */*") -> bytes:
    lines = [
        "POST /predict HTTP/1.1",
        "Host: a",
        f"Traceparent: {trace}",
        "Content-Type: application/json",
        f"content-length: {length}",
        f"X-Request-ID:{request}",
        last,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def fast_path() -> FastPath:
    return FastPath({"/predict": TARGET}, 10**6)


def test_head_that_differs_in_ids_alone_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def counted(data: bytes, parse: Callable[[bytes], object] = eligible_head) -> object:
        parsed.append(data)
        return parse(data)

    monkeypatch.setattr("server.wire.fast_path.eligible_head", counted)
    known = fast_path()
    for n in range(500):
        found = known.eligible(head(str(60 + n), f"00-{n:032x}-{n:016x}-01", "x" * (n % 40)))
        assert found is not None
        assert found.body_bytes == 60 + n
    assert len(parsed) == 1


VALUES = st.one_of(
    st.text(st.characters(max_codepoint=255), max_size=40),
    st.sampled_from(
        ["", " ", "a\r\nX: 1", "a\n", "\x00", "é", "1\r\n\r\n", "a\r\n b", "\x7f", "\t", "x" * 1900]
    ),
)
LENGTHS = st.one_of(
    st.integers(0, 10**7).map(str),
    st.sampled_from(["007", "+1", "-1", "1, 1", "1_0", "", " 5 ", "9" * 12, "٣"]),
)


@given(LENGTHS, VALUES, VALUES, st.sampled_from(["Accept: */*", "Connection: close", "Host: b", "no colon"]))
@example("65", "x", "y\r\nTransfer-Encoding: chunked", "Accept: */*")
@example("65", "x", "y\r\nContent-Length: 3", "Accept: */*")
def test_head_of_the_same_parts_says_what_the_parser_says(
    length: str, trace: str, request: str, last: str
) -> None:
    try:
        data = head(length, trace, request, last)
    except UnicodeEncodeError:
        return
    fresh, known = fast_path(), fast_path()
    known.eligible(head())
    if data.count(b"\r\n\r\n") == 1:  # the first empty line ends a head
        assert known.eligible(data) == fresh.eligible(data)


def test_few_forms_are_remembered_and_new_models_forget_them() -> None:
    known = fast_path()
    for n in range(3 * MAX_TEMPLATES):
        assert known.eligible(head(last=f"Accept: {n}")) is not None
    assert len(known._templates) == MAX_TEMPLATES
    known.use({})
    assert known.eligible(head(trace="other")) is None


def test_head_in_which_nothing_changes_but_the_length_has_no_template() -> None:
    assert template_of(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n") is None
