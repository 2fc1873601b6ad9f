"""What is said on the terminal once the page can be opened."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from server.service import Service
from ui.examples import examples_of

_WILDCARDS = {"http://0.0.0.0:": "http://127.0.0.1:", "http://[::]:": "http://[::1]:"}


def announce(address: str, service: Service) -> None:
    """Print the page's address and a command that asks the same model by API."""
    address = reachable(address)
    row = examples_of(service.default.predictor)[0].row
    print(f"\nThe page:  {address}\nThe API:   {curl(address, row)}\n", flush=True)


def reachable(address: str) -> str:
    """An address to open, also when the server listens on all of them."""
    for wildcard, loopback in _WILDCARDS.items():
        if address.startswith(wildcard):
            return loopback + address.removeprefix(wildcard)
    return address


def curl(address: str, row: Mapping[str, Any]) -> str:
    """A command for a shell that sends one row to `POST /predict`."""
    body = shlex.quote(json.dumps(row, ensure_ascii=False))
    return f"curl -sS {address}/predict -H 'Content-Type: application/json' -d {body}"
