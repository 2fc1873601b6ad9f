"""When what ended is started again."""

from server.patience import Patience


def test_who_does_not_stay_is_waited_for_longer_each_time_and_who_stayed_is_not() -> None:
    patience, now, waits = Patience(), 1000.0, []
    for stays in (1.0,) * 9 + (61.0, 1.0):
        assert patience.may_start(now)
        patience.started(now)
        now += stays
        patience.ended(now)
        began = now
        while not patience.may_start(now):
            now += 0.25
        waits.append(now - began)
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 0.5, 1]


def test_who_cannot_be_started_is_waited_for_too() -> None:
    patience = Patience()
    patience.ended(10.0)
    assert not patience.may_start(10.25)
    patience.ended(10.5)
    assert not patience.may_start(11.25)
    assert patience.may_start(11.5)
