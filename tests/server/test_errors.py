"""What is told of a name, a value or an argument of any length: where it stood, not all of it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson
import pytest

from server.errors import MAX_MESSAGE_CHARACTERS, BundleError, HotrowError, Problem, SettingsError, brief
from server.log.mask import Masking
from server.model.bundle import Bundle
from server.settings import PREFIX, Settings

ENDLESS = "n" * 100_000


def test_endless_message_keeps_what_was_expected_and_what_to_do() -> None:
    message = f"expected a name, got {ENDLESS}: choose another one"
    short = str(HotrowError(message))
    assert len(short) == MAX_MESSAGE_CHARACTERS
    assert short.startswith("expected a name, got nnn")
    assert short.endswith("nnn: choose another one")
    assert Problem(message).detail == short
    assert brief("n" * MAX_MESSAGE_CHARACTERS) == "n" * MAX_MESSAGE_CHARACTERS


@pytest.mark.parametrize("text", [ENDLESS, f"{ENDLESS}={ENDLESS}", f"/{ENDLESS}", f"{ENDLESS},{ENDLESS}:1"])
@pytest.mark.parametrize("name", [setting.name for setting in fields(Settings)])
def test_no_setting_is_told_whole_however_long(name: str, text: str) -> None:
    message = ""
    try:
        Settings.read({PREFIX + name.upper(): text})
    except SettingsError as error:  # many are taken: paths and names are what they are
        message = str(error)
    assert len(message) <= MAX_MESSAGE_CHARACTERS


def test_unknown_setting_is_not_told_whole_however_long() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.read({PREFIX + ENDLESS.upper(): "1"})
    assert len(str(refused.value)) <= MAX_MESSAGE_CHARACTERS


def test_no_text_or_name_of_a_bundle_is_told_whole_however_long(three: Path, tmp_path: Path) -> None:
    manifest = orjson.loads((three / "bundle.json").read_bytes())
    copy = tmp_path / "copy"
    shutil.copytree(three, copy)
    refusals = 0
    for changed in _changed(manifest):
        (copy / "bundle.json").write_bytes(orjson.dumps(changed))
        error = _refusal(copy)
        refusals += bool(error)
        assert len(error) <= MAX_MESSAGE_CHARACTERS
    assert refusals > 10


def _refusal(folder: Path) -> str:
    try:
        Masking({ENDLESS: "drop"}, None).mask(Bundle.load(folder))
    except (BundleError, SettingsError) as error:
        return str(error)
    return ""


def _changed(value: Any) -> Iterator[Any]:
    """The value with each of its leaves, and each of its names, replaced by an endless one."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield {ENDLESS if other == key else other: value[other] for other in value}
            for changed in _changed(member):
                yield {**value, key: changed}
    elif isinstance(value, list):
        for place, member in enumerate(value):
            for changed in _changed(member):
                yield [*value[:place], changed, *value[place + 1 :]]
    else:
        yield ENDLESS


@pytest.mark.parametrize(
    "command",
    [
        ["server", ENDLESS],
        ["server", f"--{ENDLESS}"],
        ["server", "--workers", ENDLESS],
        ["server", "--model", ENDLESS],
        ["server.models", "check", ENDLESS],
        ["monitoring", "report", ENDLESS],
    ],
)
def test_no_argument_is_told_whole_however_long(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert done.returncode in (1, 2, 3)
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 3 * MAX_MESSAGE_CHARACTERS
