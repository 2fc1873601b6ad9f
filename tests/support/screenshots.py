"""`make screenshots`: the pictures of the page in docs/images, of the shipped model in a real browser."""

import http.client
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from loadtest.bench.batch import write_rows
from monitoring.simulated_rows import simulated_rows
from server.model.bundle import Bundle
from tests.support.browser import Visit, chromium, page_served, visit
from tests.support.bundles import CREDIT

OUT = Path("docs/images")
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
#: GitHub shows pictures of this size without a thought; larger ones would weigh on every clone.
MAX_BYTES = 200_000


def main() -> None:
    """Take all pictures."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        folder = Path(name)
        with page_served(CREDIT, folder) as served:
            options: dict[str, Any] = {"viewport": WIDE, "locale": "en-GB", "reduced_motion": "reduce"}
            with visit(browser, served.url, **options) as opened:
                tabs(opened, folder, served.url)
            with visit(browser, served.url, **options | {"color_scheme": "dark"}) as opened:
                decided(opened)
                opened.open("what-if")
                changed(opened)
                take(opened, "page-what-if")
            narrow = {"viewport": NARROW, "locale": "fr-FR", "color_scheme": "dark"}
            with visit(browser, served.url, **options | narrow) as opened:
                decided(opened)
                opened.open("why")
                opened.page.locator("#why .waterfall").wait_for()
                take(opened, "page-narrow")


def tabs(opened: Visit, folder: Path, url: str) -> None:
    """The tabs in the light."""
    page = opened.page
    decided(opened)
    take(opened, "page")
    opened.open("why")
    page.locator("#why .waterfall").wait_for()
    take(opened, "page-why")
    opened.open("many")
    write_rows(Bundle.load(CREDIT), folder / "clients.csv", 3000)
    page.locator("#file").set_input_files(folder / "clients.csv")
    page.locator(".preview .score").click()
    page.locator(".summary .figures strong").first.wait_for()
    page.locator(".summary").evaluate("node => node.scrollIntoView({ block: 'end' })")
    take(opened, "page-many")
    with load(url):
        opened.open("operations")
        page.locator("#operations .tiles").wait_for()
        page.wait_for_timeout(190_000)  # a picture, not a test: the trends need some whole minutes
        take(opened, "page-operations")
    opened.open("model")
    page.locator(".model .plots").evaluate("node => node.scrollIntoView({ block: 'center' })")
    take(opened, "page-model")


def decided(opened: Visit) -> None:
    """The risky example, decided."""
    opened.page.locator(".example[data-name=risky]").click()
    opened.page.locator("#verdict .share").wait_for()


def changed(opened: Visit) -> None:
    """The first change that turns the decision, tried."""
    opened.page.locator("#flip .try").first.click()
    opened.page.locator("#right .panel.below").wait_for()
    opened.page.locator("#what-if-why .waterfall").wait_for()


def take(opened: Visit, name: str) -> None:
    """One picture, refused if it is too heavy."""
    opened.page.mouse.move(0, 0)
    content = opened.page.screenshot(path=OUT / f"{name}.png")
    assert len(content) < MAX_BYTES, f"{name}.png has {len(content):,} bytes"


@contextmanager
def load(url: str) -> Iterator[None]:
    """Applicants like those of training, one after another, while the picture is taken."""
    ended = threading.Event()
    thread = threading.Thread(target=_ask, args=(url, ended))
    thread.start()
    yield
    ended.set()
    thread.join()


def _ask(url: str, ended: threading.Event) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    bundle = Bundle.load(CREDIT)
    rows = simulated_rows(bundle, 5000, np.random.default_rng(5))
    bodies = [orjson.dumps(bundle.schema.fields(row.tolist())) for row in rows]
    while not ended.is_set():
        for body in bodies:
            if ended.wait(0.0002):
                break
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            connection.getresponse().read()


if __name__ == "__main__":
    main()
