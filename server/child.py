"""What a process of ours says at its end, awaited while the event loop answers."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

_NOTHING, _PIPE = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE


class Said(NamedTuple):
    """The exit code, None of a process that took too long and was ended; what it wrote."""

    code: int | None = None
    output: bytes = b""
    errors: bytes = b""


async def said_by(command: Sequence[str], seconds: float, given: bytes | None = None, **more: Any) -> Said:
    """What a command says that is `given` something; `more` is for `asyncio.create_subprocess_exec`.

    Its errors are kept where `more` has a pipe for them. Raises `OSError` if it cannot be started.
    """
    source = _NOTHING if given is None else _PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=source, stdout=_PIPE, **more)
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate(given)
    except TimeoutError:
        return Said()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Said(process.returncode, output, errors or b"")
