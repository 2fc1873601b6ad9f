"""No answer ever holds another client's row."""

import asyncio
import os
import random
from pathlib import Path

import orjson
import pytest

from server.bundle import Bundle
from server.predictor import Predictor
from tests.bundles import THREE_FEATURES, sample_rows
from tests.servers import address, post, serving

CLIENTS = 64
REQUESTS = int(os.environ.get("ISOLATION_REQUESTS", "6400"))


async def client(url: str, expected: list[tuple[bytes, float]], seed: int, requests: int) -> tuple[int, int]:
    """Send rows with pauses inside the body and sudden ends; (answered, wrong)."""
    rng = random.Random(seed)
    answered = wrong = 0
    reader, writer = await asyncio.open_connection(*address(url))
    for _ in range(requests):
        body, probability = rng.choice(expected)
        request = post("/predict", body)
        cut = rng.randrange(1, len(request))
        kind = rng.random()
        if kind < 0.05:  # the client leaves in the middle of its request
            writer.write(request[:cut])
            writer.close()
            reader, writer = await asyncio.open_connection(*address(url))
            continue
        if kind < 0.3:  # the body comes slowly
            writer.write(request[:cut])
            await writer.drain()
            await asyncio.sleep(rng.random() * 0.004)
            request = request[cut:]
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        document = orjson.loads(await reader.readexactly(length))
        answered += 1
        wrong += document.get("probability") != probability
    writer.close()
    return answered, wrong


@pytest.mark.parametrize("fast_door", ["on", "off"])
def test_answers_of_64_clients_are_their_own(three: Path, tmp_path: Path, fast_door: str) -> None:
    """Each answer equals the one computed alone, whatever the other clients do."""
    bundle = Bundle.load(three)
    predictor = Predictor(bundle)
    bodies = [orjson.dumps(row) for row in sample_rows(THREE_FEATURES, 2000, seed=9)]
    expected = [(body, predictor.predict(bundle.schema.encode(orjson.loads(body)))[0]) for body in bodies]

    async def all_clients(url: str) -> list[tuple[int, int]]:
        each = REQUESTS // CLIENTS
        return await asyncio.gather(*(client(url, expected, seed, each) for seed in range(CLIENTS)))

    with serving(three, tmp_path, fast_door=fast_door) as subject:
        results = asyncio.run(all_clients(subject.url))
    assert sum(answered for answered, _ in results) > REQUESTS * 0.9
    assert sum(wrong for _, wrong in results) == 0
