"""Tries model folders in a process of its own, before a running server takes them.

`python -m server.process.model_check --model DIR …` loads every folder as a worker would
and scores every golden row. A graph that makes ONNX Runtime crash ends this
process, not the one that serves. The verdict is one JSON object on stdout: the
digests of what was tried, or the sentence why not and whether a setting is to blame.
"""

import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from server.cli import CommandParser, add_options, given
from server.errors import HotrowError, SettingsError
from server.log.mask import Masking
from server.log.masked import read_key
from server.scoring.service import open_service
from server.settings import Settings

#: Address space of a check: a graph that asks for more fails in it, and takes no server's memory.
CHECK_BYTES = 8 << 30


def check_models(settings: Settings) -> list[str]:
    """The digests of the settings' models, every golden row scored; raises a `HotrowError`."""
    # All that a worker makes of them, with counters of its own and without a log.
    service = open_service(replace(settings, log_mode="off", batch_backend="onnx"))
    masking = Masking(dict(settings.log_mask), read_key(settings.log_key_file, settings.log_dir))
    for model in service.models:
        model.document  # noqa: B018  # made when it is first asked for
        if settings.log_mode != "off":
            masking.mask(model.bundle)
    return [bundle.digest for bundle in service.bundles]


def main(arguments: Sequence[str]) -> int:
    """Print the verdict."""
    parser = CommandParser(prog="python -m server.process.model_check", description=__doc__)
    add_options(parser, "model", "challenger", "log_dir", "log_mode")
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
