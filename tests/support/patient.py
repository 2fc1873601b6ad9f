"""httpx's calls with the patience that a busy machine asks for: its own is 5 s."""

from functools import partial

import httpx

from loadtest.harness.http_bytes import PATIENCE_SECONDS

get = partial(httpx.get, timeout=PATIENCE_SECONDS)
post = partial(httpx.post, timeout=PATIENCE_SECONDS)
client = partial(httpx.Client, timeout=PATIENCE_SECONDS)
