"""What is said on the terminal once the page can be opened."""

from server.scoring.service import Service
from ui.cases.examples import examples_of
from ui.words.share import curl

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
