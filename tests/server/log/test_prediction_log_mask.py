"""Personal fields: what may not be in the log is nowhere."""

import re
from pathlib import Path

import orjson
import pytest

from server.errors import SettingsError
from server.log.mask import Masking
from server.log.masked import read_key
from server.model.bundle import Bundle
from server.model.schema import Feature, Schema
from server.settings import Settings
from tests.support.bundles import ROW, THREE_FEATURES
from tests.support.monitored import logged, monitored_bundle, send_all
from tests.support.servers import exchange, post, serving

KEY = b"0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("mask") / "three")


def _masked(bundle: Bundle, rules: dict[str, str], fields: dict[str, object]) -> dict[str, object]:
    mask = Masking(rules, KEY).mask(bundle)
    assert mask is not None
    content: dict[str, object] = orjson.loads(mask.apply(orjson.dumps(fields)))
    return content


def test_without_rules_nothing_is_masked(bundle: Bundle) -> None:
    assert Masking().mask(bundle) is None


def test_a_dropped_field_is_absent(bundle: Bundle) -> None:
    assert _masked(bundle, {"contract": "drop"}, ROW) == {"income": 2500.5, "owner": True}


def test_a_hash_is_the_same_for_the_same_value_and_needs_the_key(bundle: Bundle) -> None:
    first = _masked(bundle, {"income": "hash"}, {"income": 2500})["income"]
    same = _masked(bundle, {"income": "hash"}, {"income": 2500.0})["income"]
    other = _masked(bundle, {"income": "hash"}, {"income": 2500.5})["income"]
    assert first == same != other
    assert re.fullmatch("[0-9a-f]{32}", str(first))
    with pytest.raises(SettingsError, match="HOTROW_LOG_KEY_FILE"):
        Masking({"income": "hash"}).mask(bundle)


def test_a_bucket_names_the_bin_of_the_reference(bundle: Bundle) -> None:
    masked = _masked(bundle, {"income": "bucket"}, {"income": 2500.5})
    low, _, high = str(masked["income"]).partition("..")
    assert float(low or 0) < 2500.5 <= float(high)


def test_a_missing_value_stays_missing(bundle: Bundle) -> None:
    assert _masked(bundle, {"contract": "hash"}, {"income": 1, "contract": None}) == {
        "income": 1,
        "contract": None,
    }


def test_every_row_of_a_batch_is_masked(bundle: Bundle) -> None:
    rows: dict[str, object] = {"rows": [ROW, {"income": 1.0}]}
    masked = _masked(bundle, {"income": "drop"}, rows)
    assert masked == {"rows": [{"contract": "fixed-term", "owner": True}, {}]}


def test_the_schema_marks_a_feature_as_personal_and_the_setting_overrules_it(tmp_path: Path) -> None:
    features = [
        Feature.from_dict(f.to_dict() | ({"personal": "drop"} if f.name == "contract" else {}))
        for f in THREE_FEATURES.features
    ]
    bundle = monitored_bundle(tmp_path / "personal", schema=Schema(features))
    assert bundle.schema["contract"].personal == "drop"
    mask = Masking().mask(bundle)
    assert mask is not None
    assert b"fixed-term" not in mask.apply(orjson.dumps(ROW))
    assert Masking({"contract": "keep"}).mask(bundle) is None


@pytest.mark.parametrize(
    ("rules", "words"),
    [({"owner": "bucket"}, "drop or hash it"), ({"income": "scramble"}, "expected one of keep")],
)
def test_a_rule_that_cannot_be_followed_is_refused(bundle: Bundle, rules: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Masking(rules, KEY).mask(bundle)


def test_a_key_beside_the_log_or_too_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    inside, short = tmp_path / "logs" / "key", tmp_path / "key"
    inside.write_bytes(KEY)
    short.write_bytes(b"abc")
    for file, words in ((inside, "outside of"), (short, "at least 16"), (tmp_path / "none", "readable")):
        with pytest.raises(SettingsError, match=words):
            read_key(file, tmp_path / "logs")


def test_the_setting_is_read_and_worded() -> None:
    settings = Settings.read({"HOTROW_LOG_MASK": "income=bucket,contract=drop"})
    assert settings.log_mask == (("income", "bucket"), ("contract", "drop"))
    with pytest.raises(SettingsError, match="FIELD=keep, drop, hash or bucket"):
        Settings.read({"HOTROW_LOG_MASK": "income=shred"})


def test_no_canary_of_valid_or_invalid_requests_is_in_any_output(bundle: Bundle, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(KEY)
    canaries = [b"31337.25", b"canary-contract"]
    with serving(
        bundle.directory,
        tmp_path,
        log_mask="income=hash,contract=drop,owner=keep",
        log_key_file=str(key),
    ) as subject:
        send_all(subject.url, [{"income": 31337.25, "contract": "fixed-term", "owner": True}] * 3)
        wrong = b'{"income": 31337.25, "contract": "canary-contract"}'
        row = {"name": "features", "datatype": "FP64", "shape": [1, 3], "data": [31337.25, 9.0, 0.0]}
        bodies = {
            "/predict": (wrong, wrong[:-1], wrong + wrong, b"[%b]" % wrong),
            "/predict/batch": (b'{"rows":[%b]}' % wrong, b'{"rows":[%b' % wrong),
            "/explain": (wrong,),
            "/v2/models/three/infer": (orjson.dumps({"inputs": [row]}),),
        }
        requests = [post(path, body) for path, several in bodies.items() for body in several]
        refused = exchange(subject.url, *requests)
        assert {answer.status for answer in refused} == {400, 422}
        assert len(refused) == len(requests)
        batch = b'{"rows":[{"income": 31337.25, "contract": "fixed-term", "owner": true}]}'
        assert exchange(subject.url, post("/predict/batch", batch))[0].status == 200
        (metrics,) = exchange(subject.url, b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")
    outputs = [
        *(answer.body for answer in refused),
        metrics.body,
        *(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file() and f != key),
    ]
    assert not [canary for canary in canaries for output in outputs if canary in output]
    lines = logged(tmp_path / "logs")
    assert len(lines) == 4
    assert b"fixed-term" not in b"".join(file.read_bytes() for file in (tmp_path / "logs").iterdir())
    inputs = [line["input"] for line in lines]
    inputs += inputs.pop()["rows"]
    assert {frozenset(fields) for fields in inputs} == {frozenset({"income", "owner"})}
