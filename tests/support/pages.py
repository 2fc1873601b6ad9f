"""The app of the page in this process, without a browser."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any, cast

from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from server.api.app import create_app
from server.scoring.service import open_service
from server.settings import Settings
from tests.support.monitored import logged
from ui.page import add_page

JSON = {"Content-Type": "application/json"}


def page_client(bundle: Path, logs: Path, **settings_of: Any) -> TestClient:
    """The app of `python -m ui`, in this process."""
    settings = Settings(**{"model": (bundle,), "log_dir": logs, **settings_of})
    service = open_service(settings)

    async def build() -> Starlette:
        return add_page(create_app(service))

    # Gradio opens an event loop, and never closes it, where it finds none running.
    return TestClient(asyncio.run(build()), base_url="http://localhost")


def config_of(client: TestClient, address: str = "/") -> dict[str, Any]:
    """What the page tells Gradio's script of itself."""
    text = client.get(address).text
    config: dict[str, Any] = json.loads(text.split("window.gradio_config = ")[1].split(";</script>")[0])
    return config


def decide(client: TestClient, value: Any) -> dict[str, Any]:
    """What the page's own call for a decision gives: HTML and errors."""
    answer = client.post("/page/decide", content=json.dumps(value), headers=JSON)
    assert answer.status_code == 200
    shown: dict[str, Any] = answer.json()
    return shown


def look(client: TestClient) -> str:
    """The tab of operations as it stands now."""
    return str(client.post("/page/operations", content="{}", headers=JSON).json()["html"])


def decisions(client: TestClient, decision: str = "accept") -> float:
    """Decisions so far, from the metrics: at once, while `/metrics` may wait a second."""
    registry = cast(Starlette, client.app).state.service.collector.registry
    return sum(
        float(line.rpartition(" ")[2])
        for line in generate_latest(registry).decode().splitlines()
        if line.startswith("hotrow_predictions_total") and f'decision="{decision}"' in line
    )


def wait_for_lines(logs: Path, identity: str) -> list[dict[str, Any]]:
    """The log lines of one response; they are written within 100 ms of it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := [line for line in logged(logs) if line["id"] == identity]:
            return found
        time.sleep(0.02)
    return []
