"""The challenger of the simulated month: the same trees that decide elsewhere, and what it wrote beside."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from server.model.bundle import Bundle, write_bundle
from server.model.predictor import Predictor
from server.scoring.one_row import make_scorer

_GOLDEN = "golden.jsonl"


def copy_bundle(bundle: Bundle, folder: Path) -> Bundle:
    """The same bundle in another folder: commands of the month may change it."""
    manifest, files = _content(bundle)
    return write_bundle(folder, manifest, files)


def write_challenger(bundle: Bundle, folder: Path) -> Bundle:
    """The bundle under another version, which decides where a decision costs least if scores are right."""
    manifest, files = _content(bundle)
    missed, alarm = bundle.decision.cost_false_negative, bundle.decision.cost_false_positive
    manifest |= {
        "version": f"{bundle.version}.challenger",
        "decision": manifest["decision"] | {"threshold": round(alarm / (missed + alarm), 6)},
    }
    deciding = Predictor(write_bundle(folder, manifest, files))
    golden = b"".join(_told(deciding, line) for line in files[_GOLDEN].splitlines())
    return write_bundle(folder, manifest, files | {_GOLDEN: golden})


class SimulatedChallenge:
    """Answers rows once more with a challenger; `lines` are as its process writes them."""

    def __init__(self, challenger: Bundle, champion: str) -> None:
        self._label, self._champion = challenger.label, champion
        self._scorer = make_scorer(challenger, count=lambda *_: None)
        self.lines: list[bytes] = []

    def score(self, line: Mapping[str, Any]) -> None:
        """Add what the challenger says of the row of a line of the log."""
        sent: list[bytes] = []
        self._scorer.respond(orjson.dumps(line["input"]), sent.append, 0)
        answer = orjson.loads(sent[0])
        told = {name: line[name] for name in ("ts", "id", "request_id")}
        told |= {"model": self._champion, "score": line["probability"], "decision": line["decision"]}
        told |= {"challenger": self._label, "challenger_score": answer["probability"]}
        told |= {"challenger_decision": answer["decision"]}
        self.lines.append(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))

    def write(self, folder: Path) -> None:
        """Write the file beside a log, by the name that the server gives it."""
        (folder / f"challenger-8000-{self._label}.ndjson").write_bytes(b"".join(self.lines))


def _content(bundle: Bundle) -> tuple[dict[str, Any], dict[str, bytes]]:
    own = {name: value for name, value in bundle.manifest.items() if name not in ("format", "files")}
    return own, {name: bundle.read(name) for name in bundle.manifest["files"]}


def _told(predictor: Predictor, line: bytes) -> bytes:
    """A golden line with the decision that it has now."""
    golden = orjson.loads(line)
    _, outcome = predictor.predict(predictor.bundle.schema.encode(golden["row"]))
    golden["decision"] = predictor.bundle.outcomes[outcome]
    return orjson.dumps(golden, option=orjson.OPT_APPEND_NEWLINE)
