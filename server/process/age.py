"""How long a process has been there."""

import time

import psutil


def age_seconds(process: psutil.Process) -> float:
    """Time since it began, by one clock: the kernel tells the time of day of its boot in whole seconds."""
    began: float = process.create_time() - psutil.boot_time()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began
