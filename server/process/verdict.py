"""Asks a process of its own whether the settings' model folders can be served, and reads its verdict."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import orjson

from server.errors import BundleError, HotrowError, SettingsError
from server.model.bundle import Bundle
from server.scoring.bundles import names, open_bundles
from server.settings import FOLDERS, Settings

logger = logging.getLogger(__name__)

#: A model that takes longer to load and to score its golden rows is not taken.
CHECK_SECONDS = 60.0


def check_command(settings: Settings) -> list[str]:
    """The command that checks the models of these settings; the others come by the environment."""
    models = [
        word
        for name in FOLDERS
        for path in getattr(settings, name)
        for word in (f"--{name}", os.fspath(path))
    ]
    log = ["--log-dir", os.fspath(settings.log_dir), "--log-mode", settings.log_mode]
    return [sys.executable, "-m", "server.process.model_check", *models, *log]


def run_check(settings: Settings, environment: Mapping[str, str] | None = None) -> list[str]:
    """The digests of the settings' models, checked in a process of its own that is ended when it hangs.

    Raises `BundleError`.
    """
    try:
        checked = subprocess.run(
            check_command(settings),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=CHECK_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return read_verdict(b"")
    return read_verdict(checked.stdout)


class ModelCheck:
    """A running check that is looked at from time to time, by the arbiter, which must not wait."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        os.set_blocking(self._pipe.fileno(), False)
        self._output = b""
        self._deadline = time.monotonic() + CHECK_SECONDS

    def is_done(self) -> bool:
        """Whether it has said all it will say; one that takes too long is ended."""
        while (chunk := self._pipe.read(65_536)) is not None:
            if not chunk:
                self._forget()
                return True
            self._output += chunk
        if time.monotonic() < self._deadline:
            return False
        self.end()
        return True

    def end(self) -> None:
        """End it, whatever it has found."""
        self._process.kill()
        self._forget()

    def digests(self) -> list[str]:
        """What it found good; raises `BundleError`."""
        return read_verdict(self._output)

    def _forget(self) -> None:
        # The arbiter reaps every child; asked for later, the number could be another's.
        self._process.returncode = 0
        self._pipe.close()


def read_verdict(output: bytes) -> list[str]:
    """The digests that a check found good; raises its sentence if none, as an error of its kind."""
    try:
        verdict: dict[str, Any] = orjson.loads(output)
    except orjson.JSONDecodeError:
        raise BundleError(
            f"expected models that load within {CHECK_SECONDS:g} s, got a check that crashed or hung"
        ) from None
    if "error" in verdict:
        raise (SettingsError if verdict["is_setting"] else BundleError)(verdict["error"])
    digests: list[str] = verdict["digests"]
    return digests


def checked_bundles(settings: Settings, digests: list[str]) -> list[Bundle]:
    """The bundles that were checked; raises `BundleError` if a folder has changed since."""
    bundles = open_bundles(settings)
    if [bundle.digest for bundle in bundles] != digests:
        raise BundleError("expected the model folders as they were checked, got others: reload once more")
    return bundles


def say_failed(why: str, error: Exception | None, bundles: list[Bundle]) -> None:
    """Tell operators of a reload that failed: in a sentence, or with the traceback of what nobody foresaw."""
    foreseen = error is None or isinstance(error, HotrowError | OSError)
    trace = None if foreseen else error
    logger.error("%s; %s goes on being served.", why or repr(error), names(bundles), exc_info=trace)
