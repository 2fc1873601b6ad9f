"""The fuzzer's own checks, on its seeds and on seeded mutations of them; `make fuzz` goes on for minutes."""

import random

import pytest

from tests.fuzz.every_kind import EVERY_KIND
from tests.fuzz.targets import TARGETS, RowTarget, check, seeds

pytestmark = pytest.mark.whole

SEEDS = seeds()
#: What a mutation puts in: what JSON is made of, and what it is not.
TOKENS = (
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"1e400", b"-0", b"1.5", b"9007199254740993",
    b"\\ud800", b"\xff", b"\xef\xbb\xbf", b"NaN", b" ", b"\n", b"0x1", b"1" * 400, b"[" * 70,
)  # fmt: skip


def mutated(seed: bytes, choose: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(choose.randrange(1, 4)):
        at = choose.randrange(1, len(data)) if len(data) > 1 else len(data)
        match choose.randrange(4):
            case 0:
                data[at : at + 1] = choose.randbytes(1)
            case 1:
                data[at:at] = choose.choice(TOKENS)
            case 2:
                del data[at : at + choose.randrange(1, 12)]
            case _:
                start = choose.randrange(len(data))
                data[at:at] = data[start : start + choose.randrange(1, 30)]
    return bytes(data)


def test_seeds_reach_every_target() -> None:
    assert {seed[0] for seed in SEEDS} == set(range(len(TARGETS)))
    for seed in SEEDS:
        check(seed)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"{seed[0]}-{len(seed)}")
def test_mutations_are_refused_in_words_or_decoded_alike(seed: bytes) -> None:
    choose = random.Random(7)
    for _ in range(400):
        check(mutated(seed, choose))


def test_judge_sees_a_row_that_is_taken_wrongly() -> None:
    """The check itself can fail."""
    target = RowTarget(EVERY_KIND)
    target._decode = lambda _: bytes(8 * len(EVERY_KIND))
    with pytest.raises(AssertionError):
        target(b'{"income":1,"grade":"a"}')
