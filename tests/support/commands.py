"""A command of ours run inside this process, where what is imported once stays imported."""

import io
import os
import runpy
import signal
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch


def run_inside(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`python -m MODULE …`, given as to `servers.run`, with what it printed and its exit code."""
    module, out, err = arguments[1], io.BytesIO(), io.BytesIO()
    stdout, stderr = (io.TextIOWrapper(stream, "utf-8", write_through=True) for stream in (out, err))
    code, terminated = 0, signal.getsignal(signal.SIGTERM)
    with (
        patch.object(sys, "argv", [module, *arguments[2:]]),
        patch.dict(os.environ, environment),
        warnings.catch_warnings(action="ignore"),  # a command's own, which nobody asks to see
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=False)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            if signal.getsignal(signal.SIGTERM) is not terminated:
                signal.signal(signal.SIGTERM, terminated)
    return subprocess.CompletedProcess(
        list(arguments), code, out.getvalue().decode(), err.getvalue().decode()
    )
