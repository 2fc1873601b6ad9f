"""`python -m ui`: the API and the page on one port."""

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from server.cli import COULD_NOT_START, CommandParser, add_options, given, run
from server.errors import SettingsError
from server.settings import PREFIX, Settings

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from server.scoring.service import Service

PORT = 7860


def main(arguments: Sequence[str]) -> None:
    """Parse the options and serve."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is somebody who reads models again
    parser = CommandParser("python -m ui", description=__doc__)
    add_options(parser, "model", "host", "port", "log_dir", "log_mode", port=PORT)
    options: dict[str, Any] = given(parser.parse_args(arguments))
    if options["port"] is None and PREFIX + "PORT" not in os.environ:
        options["port"] = PORT
    # Imported here: without their libraries the command says so.
    from server.process.single import serve
    from ui.access.hosts import own_hosts
    from ui.announce import announce

    # One process: Gradio keeps state in it.
    settings = Settings.read(os.environ, **options | {"workers": 1})
    if settings.keys_file is not None and not (settings.ui_auth or settings.ui_auth_file):
        raise SettingsError(
            "expected HOTROW_UI_AUTH or HOTROW_UI_AUTH_FILE beside HOTROW_KEYS_FILE, got neither: the page "
            "would score for everybody"
        )
    settings = replace(settings, allowed_hosts=own_hosts(settings))
    serve(settings, make_app, announce, reloads=False)  # the page is made of one model's schema


def make_app(service: "Service") -> "Starlette":
    """The API's app with the page in front of it."""
    # Imported here: Gradio takes seconds, and a wrong --model is refused at once.
    from server.api.app import create_app
    from ui.access.surface import is_of_page
    from ui.page import add_page

    return add_page(create_app(service, has_own_guard=is_of_page))


if __name__ == "__main__":
    run(main, COULD_NOT_START)
