"""The counts of one answer: no clock is read, so they hold in any test run."""

import sys

import pytest
import uvloop

from loadtest.bench.gate import count_responses, judge_counts, read_gate
from tests.support.bundles import CREDIT


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the committed counts are those of Python 3.11")
@pytest.mark.skipif(not CREDIT.exists(), reason="models/credit is not there")
def test_an_answer_of_the_shipped_model_asks_for_no_more_memory_and_calls_than_committed() -> None:
    assert judge_counts(uvloop.run(count_responses(CREDIT)), read_gate()) == []
