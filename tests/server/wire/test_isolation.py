"""No answer ever holds another client's row."""

import os
from pathlib import Path

import pytest

from loadtest.harness.recording_client import Load, Manners
from loadtest.harness.reference_rows import ReferenceRow
from loadtest.harness.request_records import reconcile
from tests.support.servers import serving

pytestmark = pytest.mark.whole

REQUESTS = int(os.environ.get("ISOLATION_REQUESTS", "3200"))


@pytest.mark.parametrize("fast_path", ["on", "off"])
def test_answers_of_64_clients_are_their_own(
    three: Path, three_rows: list[ReferenceRow], tmp_path: Path, fast_path: str
) -> None:
    """Each answer equals the one computed alone, whatever the other clients do: some send
    slowly, some leave in the middle of a request."""
    with serving(three, tmp_path, fast_path=fast_path) as subject:
        with Load(subject.url, three_rows, clients=64, manners=Manners(leave=0.05, slow=0.25)) as clients:
            clients.wait_for(REQUESTS, seconds=240)
        records = clients.records
        assert subject.process.poll() is None
    assert not records.failed
    assert records.left > REQUESTS / 50
    found = reconcile(records, tmp_path / "logs")
    assert not found.faults
    assert not found.others
