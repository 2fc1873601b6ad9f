"""How long a process has been there, by a clock that is finer than the kernel's time of its boot."""

import subprocess
import time

import psutil

from loadtest.harness.subject import python
from server.process.age import age_seconds

#: The kernel counts the start of a process in hundredths of a second.
TICK_SECONDS = 0.01


def test_process_is_no_older_than_it_can_be() -> None:
    before = time.monotonic()
    with subprocess.Popen(python("-c", "input()"), stdin=subprocess.PIPE) as process:
        age = age_seconds(psutil.Process(process.pid))
        process.kill()
    assert 0 <= age <= time.monotonic() - before + TICK_SECONDS
