"""`python -m server`: the API alone."""

import os
import signal
from collections.abc import Sequence

from server.cli import COULD_NOT_START, CommandParser, add_options, given, run
from server.settings import Settings


def main(arguments: Sequence[str]) -> None:
    """Parse the options and serve."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is somebody who reads models again
    parser = CommandParser("python -m server", description=__doc__)
    add_options(parser, "model", "challenger", "host", "port", "uds", "workers", "log_dir", "log_mode")
    settings = Settings.read(os.environ, **given(parser.parse_args(arguments)))
    # Imported here: without its libraries the command says so.
    from server.api.app import create_app

    if settings.workers == 1:
        from server.process.single import serve

        serve(settings, create_app)
    else:
        # Imported here: one worker needs neither gunicorn nor its memory.
        from server.process.workers import serve_with_workers

        serve_with_workers(settings, create_app)


if __name__ == "__main__":
    run(main, COULD_NOT_START)
