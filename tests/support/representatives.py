"""Of many tests alike, those that `make test` runs; `make test-all` runs all."""

from collections.abc import Iterable
from typing import Any

import pytest


def represented(names: Iterable[str], *by: str) -> list[Any]:
    """The parameters of a test, all but the named ones marked `whole`; a name that is none is a mistake."""
    known = list(names)
    assert set(by) <= set(known)
    return [pytest.param(name, id=name, marks=() if name in by else pytest.mark.whole) for name in known]
