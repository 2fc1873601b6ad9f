"""A server some of whose places are taken for good, as by batches that never end: `KIND COUNT OPTION …`."""

import argparse
import os
import sys

from starlette.applications import Starlette
from starlette.types import ASGIApp

from server.cli import add_options, given
from server.process.single import serve
from server.settings import Settings


def main(kind: str, count: str, *options: str) -> None:
    """Serve, with so many requests of a kind in flight."""
    parser = argparse.ArgumentParser()
    add_options(parser, "model", "host", "port", "log_dir", "log_mode")
    settings = Settings.read(os.environ, **given(parser.parse_args(options)))

    def take_places(app: Starlette) -> ASGIApp:
        for _ in range(int(count)):
            app.state.service.in_flight.begin(kind)
        return app

    serve(settings, extend=take_places)


if __name__ == "__main__":
    main(*sys.argv[1:])
