"""Whose a request is, champion's or challenger's: by its key alone, for ever."""

import math
from pathlib import Path

import pytest

from server.errors import BundleError
from server.model.arms import SPLIT_FILE, TrafficSplit, challenger_folder, key_of, split_of


@pytest.mark.parametrize("share", [0.5, 10.0, 50.0, 99.0])
def test_shares_come_out_over_many_keys(share: float) -> None:
    draws = TrafficSplit(share).draws("credit@2")
    drawn = sum(draws(b"client-%d" % i) for i in range(100_000))
    deviation = math.sqrt(100_000 * share / 100 * (1 - share / 100))
    assert abs(drawn - 1000 * share) < 4 * deviation


def test_same_key_has_the_same_arm_and_a_larger_share_gives_none_back() -> None:
    keys = [b"client-%d" % i for i in range(10_000)]
    # As drawn where this was first run: another machine, version or restart draws the same.
    draws = TrafficSplit(10.0).draws("credit@2")
    assert [key for key in keys[:40] if draws(key)] == [b"client-7", b"client-37"]
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
    assert by_id(b'{"request_id": "no"}', b"") == b""
    assert {by_client(body, b"") for body in (b'{"client": 7}', b'{"client": 7.0}', b'{"client": "7"}')} == {
        b"7"
    }
    assert [by_client(body, b"") for body in (b"{}", b"[1]", b"x", b'{"client": null}')] == [b""] * 4


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
