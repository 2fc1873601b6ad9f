"""What a process of ours says at its end, awaited while the event loop answers."""

import asyncio
from collections.abc import Sequence
from typing import Any

_NOTHING, _PIPE = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE


async def output_of(command: Sequence[str], seconds: float, **more: Any) -> tuple[int | None, bytes]:
    """The exit code and the output of a command; None and nothing if it took longer, and was ended.

    `more` is for `asyncio.create_subprocess_exec`. Raises `OSError` if it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(*command, stdin=_NOTHING, stdout=_PIPE, **more)
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    except TimeoutError:
        return None, b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output
