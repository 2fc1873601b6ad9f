"""Where a text is cut into blocks of whole records."""

import random

from server.tables.text_blocks import end_outside_quotes


def simplest(text: bytes) -> int:
    """The same, asked of every place from the end on."""
    ends = [end for end in range(len(text), 0, -1) if text[end - 1] in b"\r\n"]
    if text.endswith(b"\r"):  # it may be half of one
        ends.pop(0)
    return next((end for end in ends if text.count(b'"', 0, end) % 2 == 0), 0)


def test_the_last_line_end_outside_quotes_is_found() -> None:
    choose = random.Random(1)
    for _ in range(3000):
        text = bytes(choose.choices(b'a",\r\n', k=choose.randrange(12)))
        assert end_outside_quotes(text) == simplest(text), text


def test_a_megabyte_of_lines_inside_quotes_is_looked_at_once() -> None:
    """Going back a line at a time, looking for a CR in all before each, took 3 s."""
    assert end_outside_quotes(b'"a\n",' * 200_000) == 0
    assert end_outside_quotes(b"x\n" + b'"a\n",' * 200_000) == 2
