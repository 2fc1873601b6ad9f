"""Whose a request is, champion's or challenger's: by its key alone, for ever."""

import itertools
import math
from pathlib import Path

import pytest

from server.errors import BundleError
from server.model.arms import SPLIT_FILE, TrafficSplit, challenger_folder, key_of, split_of

#: As clients make them: counted up, in steps, padded, in hexadecimal digits, with a tail.
KEYS = (b"client-%d", b"%d000", b"%010d", b"%032x", b"a1b2c3d4e5f6-%d", b"user%d@example.com")


@pytest.mark.parametrize(("share", "form"), list(zip([0.5, 10.0, 50.0, 99.0, 1.0, 25.0], KEYS, strict=True)))
def test_shares_come_out_over_many_keys(share: float, form: bytes) -> None:
    draws = TrafficSplit(share).draws("credit@2")
    drawn = sum(draws(form % i) for i in range(100_000))
    deviation = math.sqrt(100_000 * share / 100 * (1 - share / 100))
    assert abs(drawn - 1000 * share) < 4 * deviation


@pytest.mark.parametrize("form", KEYS)
def test_arms_of_two_challengers_have_nothing_to_do_with_each_other(form: bytes) -> None:
    """And so it is for neighbours: a key says nothing of the next one."""
    labels = [f"credit@{version}" for version in range(8)]
    draws = [TrafficSplit(50.0).draws(label) for label in labels]
    drawn = [[one(form % i) for i in range(4000)] for one in draws]
    for arm, other in itertools.pairwise(drawn):
        for pairs in (zip(arm, other, strict=True), itertools.pairwise(arm)):
            assert abs(sum(a == b for a, b in pairs) - 2000) < 5 * math.sqrt(1000)


def test_same_key_has_the_same_arm_and_a_larger_share_gives_none_back() -> None:
    keys = [b"client-%d" % i for i in range(10_000)]
    # As drawn where this was first run: another machine, version or restart draws the same.
    draws = TrafficSplit(10.0).draws("credit@2")
    assert [key for key in keys[:60] if draws(key)] == [b"client-34", b"client-45"]
    arms = [
        {key for key in keys if TrafficSplit(share).draws("credit@2")(key)}
        for share in (1.0, 10.0, 60.0, 100.0)
    ]
    assert arms[0] < arms[1] < arms[2] < arms[3] == set(keys)
    other = {key for key in keys if TrafficSplit(10.0).draws("credit@3")(key)}
    assert len(other & arms[1]) < len(arms[1]) / 4  # another challenger draws anew
    long = [{key for key in keys if TrafficSplit(10.0).draws("é" * 99 + v)(key)} for v in ("@2", "@3")]
    assert 0 < len(long[0] & long[1]) < len(long[0]) / 4


def test_key_of_a_request_is_its_id_or_a_field() -> None:
    by_id, by_client = key_of("request_id"), key_of("client")
    assert by_id(b"{}", b',"request_id":"r-1","trace_id":"00"') == b"r-1"
    assert by_id(b"{}", b',"request_id":7,"header_request_id":"h"') == b"h"
    assert by_id(b"{}", b',"request_id":"r\\"1\\\\","trace_id":"00"') == b'r"1\\'
    assert by_id(b"{}", b',"request_id":"r-1","caller":"a\\"b"') == b"r-1"
    assert by_id(b"{}", b',"trace_id":"00","caller":"request_id"') == b""
    assert by_id(b'{"request_id": "no"}', b"") == b""
    assert {by_client(body, b"") for body in (b'{"client": 7}', b'{"client": 7.0}', b'{"client": "7"}')} == {
        b"7"
    }
    none = (
        b"{}",
        b"[1]",
        b"x",
        b'{"client": null}',
        b'{"client": [7]}',
        b'{"client": {"a": 1}}',
        b'{"client": ""}',
    )
    broken = (
        b'{"client": 1e999}',
        b'{"client": %b' % (b"[" * 5000),
        b'{"x": %b' % (b"[" * 5000),
        b'{"client": "\xff"}',
    )
    assert [by_client(body, b"") for body in none + broken] == [b""] * 11
    large = (
        b'{"client": 1e30}',
        b'{"client": %d}' % 10**40,
        b'{"client": 1.5}',
        b'{"\\u0063lient": true, "x": [{}]}',
    )
    assert [by_client(body, b"") for body in large] == [b"%d" % 1e30, b"%d" % 10**40, b"1.5", b"1"]


@pytest.mark.parametrize(
    "content", [b'{"share": 0}', b'{"share": 101}', b'{"share": "x"}', b"{", b'{"shere": 1}']
)
def test_split_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    served = tmp_path / "credit"
    for folder, manifest in ((served, b"1"), (challenger_folder(served), b"2")):
        folder.mkdir()
        (folder / "bundle.json").write_bytes(manifest)
    assert split_of(served) is None
    (challenger_folder(served) / SPLIT_FILE).write_bytes(content)
    with pytest.raises(BundleError, match="expected a share of more than 0 and at most 100 percent"):
        split_of(served)
