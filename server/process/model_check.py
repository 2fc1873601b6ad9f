"""Tries model folders in a process of its own, before a running server takes them.

`python -m server.process.model_check --model DIR …` loads every folder as a worker would
and scores every golden row. A graph that makes ONNX Runtime crash ends this
process, not the one that serves. The verdict is one JSON object on stdout: the
digests of what was tried, or the sentence why not and whether a setting is to blame.
"""

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from server.cli import add_options, given
from server.errors import BundleError, HotrowError, SettingsError
from server.log.mask import Masking
from server.log.masked import read_key
from server.scoring.service import open_bundles, open_service, share_metrics
from server.settings import Settings

#: A model that takes longer to load and to score its golden rows is not taken.
CHECK_SECONDS = 60.0
#: Address space of a check: a graph that asks for more fails in it, and takes no server's memory.
CHECK_BYTES = 8 << 30


def check_models(settings: Settings) -> list[str]:
    """The digests of the settings' models, every golden row scored; raises a `HotrowError`."""
    bundles = open_bundles(settings)
    # All that a worker makes of them, with counters of its own and without a log.
    service = open_service(replace(settings, log_mode="off"), bundles, share_metrics(bundles, 1))
    masking = Masking(dict(settings.log_mask), read_key(settings.log_key_file, settings.log_dir))
    for model in service.models:
        model.document  # noqa: B018  # made when it is first asked for
        if settings.log_mode != "off":
            masking.mask(model.bundle)
    return [bundle.digest for bundle in bundles]


def check_command(settings: Settings) -> list[str]:
    """The command that checks the models of these settings; the others come by the environment."""
    models = [word for directory in settings.model for word in ("--model", os.fspath(directory))]
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


def main(arguments: Sequence[str]) -> int:
    """Print the verdict."""
    parser = argparse.ArgumentParser(prog="python -m server.process.model_check", description=__doc__)
    add_options(parser, "model", "log_dir", "log_mode")
    resource.setrlimit(resource.RLIMIT_AS, (CHECK_BYTES, CHECK_BYTES))
    try:
        settings = Settings.read(os.environ, **given(parser.parse_args(arguments)))
        verdict: dict[str, Any] = {"digests": check_models(settings)}
    except HotrowError as error:
        verdict = {"error": str(error), "is_setting": isinstance(error, SettingsError)}
    sys.stdout.buffer.write(orjson.dumps(verdict))
    return "error" in verdict


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
