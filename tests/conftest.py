"""Fixtures that several tests share: tiny bundles and servers that answer with them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from loadtest.harness.reference_rows import ReferenceRow, scored
from server.model.bundle import Bundle
from tests.support.bundles import CREDIT, THREE_FEATURES, sample_rows, three_feature_bundle, wide_bundle
from tests.support.kept import kept
from tests.support.servers import serving

# No test is about time: on a busy machine an example may take longer than the 200 ms it would have.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
# No server of a test has one process more for a while, which makes code; `test_row_code.py` asks for it.
os.environ["HOTROW_ROW_BACKEND"] = "onnx"
os.environ.setdefault("HOTROW_LINE_BACKEND", "python")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first: a process that began one at the end would be waited for by the others."""
    whole = {item.path for item in items if item.get_closest_marker("whole")}
    items.sort(key=lambda item: item.path not in whole)


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three-feature bundle."""
    return kept(three_feature_bundle, tmp_path_factory.mktemp("bundles") / "three")


@pytest.fixture(scope="session")
def three_rows(three: Path) -> list[ReferenceRow]:
    """Rows of the three-feature bundle with their scores."""
    return scored([Bundle.load(three)], sample_rows(THREE_FEATURES, 2000, seed=9))


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of 600 features."""
    return kept(wide_bundle, tmp_path_factory.mktemp("bundles") / "wide")


@pytest.fixture(scope="session", params=["credit", "three"])
def bundle(request: pytest.FixtureRequest) -> Path:
    """The shipped bundle, then the three-feature one."""
    return CREDIT if request.param == "credit" else request.getfixturevalue("three")


@pytest.fixture(scope="session")
def server(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the three-feature bundle."""
    with serving(three, tmp_path_factory.mktemp("server")) as subject:
        yield subject.url


@pytest.fixture(scope="session")
def asgi_server(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same with the fast path closed."""
    with serving(three, tmp_path_factory.mktemp("ordinary"), fast_path="off") as subject:
        yield subject.url
