"""A share of the requests for a challenger, and the folders of its life, without a server."""

import shutil
from pathlib import Path

import orjson
import pytest

from server.errors import BundleError, SettingsError, UnacceptableRow
from server.model.arms import TrafficSplit, challenger_folder, challengers_of, split_of
from server.model.bundle import Bundle
from server.publish.challenge import challenge, promote, withdraw
from server.scoring.bundles import open_bundles
from server.scoring.service import Service, open_service
from server.settings import Settings
from tests.support.bundles import ROW, edit, rewritten

IDS = [b"r-%d" % i for i in range(60)]


@pytest.fixture
def served(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "served"))


@pytest.fixture
def second(three: Path, tmp_path: Path) -> Path:
    """The same model as another version: what answers is told by the label alone."""
    return rewritten(three, tmp_path / "second", version="2")


def opened(served: Path) -> Service:
    return open_service(Settings(model=(served,), log_mode="off"))


def answered(service: Service, path: str, query: str = "", body: bytes = orjson.dumps(ROW)) -> list[str]:
    """Which model answers each of `IDS`."""
    (respond,) = [r for p, q, r in service.responders() if (p, q) == (path, query)]
    sent: list[bytes] = []
    for id_ in IDS:
        respond(body, sent.append, 0, None, b',"request_id":"%b"' % id_)
    return [orjson.loads(content)["model"] for content in sent]


def test_share_is_answered_by_the_challenger_on_every_path_but_those_of_a_version(
    served: Path, second: Path
) -> None:
    challenge(second, served, TrafficSplit(40.0)).keep()
    service = opened(served)
    draws = TrafficSplit(40.0).draws("three@2")
    expected = [f"three@{1 + draws(id_)}" for id_ in IDS]
    assert set(expected) == {"three@1", "three@2"}
    for path in ("/predict", "/models/three/predict"):
        assert answered(service, path) == expected
        names = {} if path == "/predict" else {"name": "three"}
        asked = [service.challenger_of(names, b"{}", b',"request_id":"%b"' % id_) for id_ in IDS]
        assert [model.bundle.label if model else "three@1" for model in asked] == expected
    for version in ("1", "2"):
        path = f"/models/three/versions/{version}/predict"
        assert set(answered(service, path)) == {f"three@{version}"}
        assert service.challenger_of({"name": "three", "version": version}, b"{}", b"") is None
    (arm,) = service.arms()
    assert (arm["champion"], arm["challenger"], arm["share"], arm["by"]) == (
        "three@1",
        "three@2",
        40.0,
        "request_id",
    )


def test_model_of_any_name_has_its_split(three: Path, tmp_path: Path) -> None:
    one, two = (rewritten(three, tmp_path / v, name="versions", version=v) for v in "12")
    challenge(two, one, TrafficSplit(100.0)).keep()
    service = opened(one)
    assert set(answered(service, "/models/versions/predict")) == {"versions@2"}
    assert set(answered(service, "/models/versions/versions/1/predict")) == {"versions@1"}


def test_row_that_the_challenger_does_not_take_is_the_champions(served: Path, second: Path) -> None:
    challenge(second, served, TrafficSplit(100.0)).keep()
    folder = challenger_folder(served)
    golden = (folder / "golden.jsonl").read_bytes().splitlines()
    few = [line for line in golden if orjson.loads(line)["row"]["income"] <= 10.0]
    assert few
    edit(folder, "golden.jsonl", b"\n".join(few) + b"\n")
    manifest = orjson.loads((folder / "bundle.json").read_bytes())
    manifest["features"][0]["maximum"] = 10.0  # of an income
    (folder / "bundle.json").write_bytes(orjson.dumps(manifest))
    service = opened(served)
    assert set(answered(service, "/predict")) == {"three@1"}
    assert set(answered(service, "/predict", body=b'{"income": 5}')) == {"three@2"}
    (respond,) = [r for p, q, r in service.responders() if (p, q) == ("/predict", "")]
    with pytest.raises(UnacceptableRow):
        respond(b'{"income": -1}', list[bytes]().append, 0, None, b',"request_id":"r"')


def test_life_of_a_challenger_in_its_folders(served: Path, second: Path) -> None:
    with pytest.raises(BundleError, match="expected a challenger of"):
        challenge(None, served, TrafficSplit(10.0))
    with pytest.raises(BundleError, match="another version of three@1"):
        challenge(served, served, None)
    undone = challenge(second, served, TrafficSplit(10.0))
    assert split_of(served) == TrafficSplit(10.0)
    undone.undo()
    assert not challenger_folder(served).exists()
    challenge(second, served, None).keep()
    assert split_of(served) is None
    with pytest.raises(BundleError, match="expected request_id, or a field of three@1"):
        challenge(None, served, TrafficSplit(10.0, "client"))
    changed = challenge(None, served, TrafficSplit(10.0, "contract"))
    assert split_of(served) == TrafficSplit(10.0, "contract")
    changed.undo()
    assert split_of(served) is None
    promoted = promote(served)
    assert (Bundle.load(served).label, challengers_of(Bundle.load(served), ())) == ("three@2", [])
    promoted.undo()
    assert (Bundle.load(served).version, Bundle.load(challenger_folder(served)).version) == ("1", "2")
    promote(served).keep()
    assert (Bundle.load(served).label, challenger_folder(served).exists()) == ("three@2", False)
    challenge(rewritten(served, served.parent / "third", version="3"), served, None).keep()
    gone = withdraw(served)
    assert challengers_of(Bundle.load(served), ()) == []
    gone.undo()
    assert [one.label for one in challengers_of(Bundle.load(served), ())] == ["three@3"]
    withdraw(served).keep()
    assert [path.name for path in served.parent.glob("*challenger*")] == []


def test_challenger_that_cannot_answer_the_champions_rows_gets_no_share(
    three: Path, served: Path, second: Path, tmp_path: Path
) -> None:
    """Its share would silently be the champion's, and its promotion 422 for everybody."""
    features = orjson.loads((three / "bundle.json").read_bytes())["features"]
    other = [features[0] | {"name": "salary"}, *features[1:]]
    golden = (three / "golden.jsonl").read_bytes().replace(b'"income"', b'"salary"')
    fewer = rewritten(three, tmp_path / "fewer", {"golden.jsonl": golden}, version="3", features=other)
    more = rewritten(
        three,
        tmp_path / "more",
        {"golden.jsonl": golden},
        version="4",
        features=[other[0] | {"nullable": False}, *features[1:]],
        ignored=["income"],
    )
    for new, words in ((fewer, "takes no income"), (more, "needs salary")):
        with pytest.raises(BundleError, match=words):
            challenge(new, served, TrafficSplit(10.0))
        assert not challenger_folder(served).exists()
        challenge(new, served, None).keep()  # beside it harms nobody
        with pytest.raises(BundleError, match=words):
            promote(served)
        withdraw(served).keep()
    reading = rewritten(three, tmp_path / "reading", version="1", ignored=["region"])
    champion = Path(shutil.copytree(reading, tmp_path / "champion"))
    with pytest.raises(BundleError, match="takes no region"):
        challenge(second, champion, TrafficSplit(10.0))


def test_challengers_that_are_named_score_beside_and_answer_nothing(
    served: Path, second: Path, three: Path, tmp_path: Path
) -> None:
    third, other = (rewritten(three, tmp_path / v, version=v) for v in "34")
    challenge(second, served, TrafficSplit(40.0)).keep()
    named = (third, second, other, served, tmp_path / "none")  # a version counts once, its own and none not
    service = open_service(Settings(model=(served,), challenger=named, log_mode="off"))
    told = [(arm["champion"], arm["challenger"], arm["share"]) for arm in service.arms()]
    assert told == [
        *(("three@1", f"three@{v}", share) for v, share in (("2", 40.0), ("3", 0.0), ("4", 0.0))),
        *(("three@2", f"three@{v}", 0.0) for v in "341"),
    ]
    assert set(answered(service, "/predict")) == {"three@1", "three@2"}


def test_challengers_of_no_served_model_and_too_many_are_refused(
    served: Path, three: Path, tmp_path: Path
) -> None:
    stranger = rewritten(three, tmp_path / "stranger", name="other")
    with pytest.raises(SettingsError, match=r"expected another version of three@1, .* got other@1"):
        open_bundles(Settings(model=(served,), challenger=(stranger,)))
    with pytest.raises(BundleError, match="expected at most 8 challengers, got 9"):
        open_bundles(Settings(model=(served,), challenger=(served,) * 9))


def test_challenger_that_cannot_be_read_stops_no_start(served: Path, second: Path) -> None:
    challenge(second, served, None).keep()
    (challenger_folder(served) / "bundle.json").write_bytes(b"{")
    service = opened(served)
    assert service.arms() == []
    assert set(answered(service, "/predict")) == {"three@1"}
