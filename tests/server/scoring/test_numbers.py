"""The numbers of responses: each of one line in the log, and none of none."""

from pathlib import Path

from server.model.bundle import Bundle
from server.scoring.one_row import make_scorer


def test_number_that_is_given_back_comes_once_though_others_came_after(three: Path) -> None:
    scorer = make_scorer(Bundle.load(three), lambda *_: None)
    taken = [scorer.take_sequence() for _ in range(5)]
    assert taken == [1, 2, 3, 4, 5]
    scorer.give_back(4)
    scorer.give_back(2)
    assert [scorer.take_sequence() for _ in range(4)] == [2, 4, 6, 7]
    scorer.give_back(*{7, 1})
    assert [scorer.take_sequence() for _ in range(3)] == [1, 7, 8]
