"""A server some of whose places are taken for good, as by batches that never end: `KIND COUNT OPTION …`."""

import argparse
import os
import sys

from starlette.applications import Starlette

from server.api.app import create_app
from server.cli import add_options, given
from server.process.single import serve
from server.scoring.service import Service
from server.settings import Settings


def main(kind: str, count: str, *options: str) -> None:
    """Serve, with so many requests of a kind in flight."""
    parser = argparse.ArgumentParser()
    add_options(parser, "model", "host", "port", "log_dir", "log_mode")
    settings = Settings.read(os.environ, **given(parser.parse_args(options)))

    def make_app(service: Service) -> Starlette:
        for _ in range(int(count)):
            service.in_flight.begin(kind)
        return create_app(service)

    serve(settings, make_app)


if __name__ == "__main__":
    main(*sys.argv[1:])
