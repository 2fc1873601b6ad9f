"""A server killed in the middle, of somebody else's model: no words, and names as JavaScript's own."""

import csv
import re
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Route, expect

from export.assemble import write_conversion
from export.lightgbm.model import convert_lightgbm
from server.model.bundle import Decision
from server.model.schema import Feature, Schema
from tests.support.browser import chromium, page_served, visit
from tests.support.bundles import sample_rows, train

pytestmark = pytest.mark.whole

STRANGE = Schema(
    [Feature(name, minimum=0, maximum=1) for name in ("constructor", "__proto__", "toString", "score")]
)
#: Of several pieces.
ROWS = 2000


def strange_bundle(out: Path) -> None:
    rows = sample_rows(STRANGE, ROWS)
    matrix = np.array([np.frombuffer(STRANGE.encode(row)) for row in rows])
    text = train(matrix, np.nan_to_num(matrix).sum(axis=1) > 1.8, STRANGE, 10)
    write_conversion(
        out,
        convert_lightgbm(text),
        schema=STRANGE,
        name="strange",
        version="1",
        decision=Decision(0.5, "yes", "no"),
        golden=rows[:200],
    )


def test_server_killed_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    """What is typed stays, a file goes on where it was, a letter opens again; each row is decided once."""
    strange_bundle(tmp_path / "strange")
    names = STRANGE.names
    lines = [",".join(str(row.get(name, "")) for name in names) for row in sample_rows(STRANGE, ROWS, seed=1)]
    content = "\n".join([",".join(names), *lines]).encode()
    file = {"name": "rows.csv", "mimeType": "text/csv", "buffer": content}
    with ExitStack() as stack:
        browser = stack.enter_context(chromium())
        first = stack.enter_context(page_served(tmp_path / "strange", tmp_path))
        opened = stack.enter_context(visit(browser, first.url, locale="en-GB"))
        page = opened.page
        for name, value in zip(names, ("0.1", "0.2", "0.3", "0.4"), strict=True):
            page.locator(f'#form .field[data-feature="{name}"] input').fill(value)
        page.locator("#case-number").fill("C-1")
        opened.decide()
        page.locator("#verdict .papers").wait_for()
        sent = page.locator("[data-block=request]").text_content() or ""
        assert re.findall(r'"(\S.*?)": ?(0\.\d)', sent) == list(
            zip(names, ("0.1", "0.2", "0.3", "0.4"), strict=True)
        )
        with page.context.expect_page() as opening:
            page.get_by_role("link", name="Letter").click()
        letter = opening.value
        expect(letter.locator("footer")).to_contain_text("equal to the bit")
        opened.open("many")
        page.locator("#file").set_input_files(file)  # type: ignore[arg-type]
        pieces: list[Route] = []

        def killed_before_the_second(route: Route) -> None:
            pieces.append(route)
            if len(pieces) == 2:
                assert first.process is not None
                first.process.kill()
                first.process.wait()
            route.continue_()

        page.route(re.compile(r"/page/many\?"), killed_before_the_second)
        page.get_by_role("button", name="Score all rows").click()
        expect(page.get_by_role("button", name="Go on")).to_be_visible()
        opened.open("decide")
        page.locator('#form .field[data-feature="toString"] input').fill("0.9")
        page.get_by_role("button", name="Decide", exact=True).click()
        expect(page.locator("#form .failure")).to_contain_text("What you typed is still here")
        port = int(first.url.rpartition(":")[2])
        stack.enter_context(page_served(tmp_path / "strange", tmp_path, port))
        expect(page.locator("#cut")).to_be_hidden()
        opened.decide()
        page.locator("#verdict .papers").wait_for()
        assert [page.locator(f'.field[data-feature="{name}"] input').input_value() for name in names] == [
            "0.1",
            "0.2",
            "0.9",
            "0.4",
        ]
        expect(page.locator("#case-number")).to_have_value("C-1")
        letter.reload()
        expect(letter.locator("footer")).to_contain_text("equal to the bit")
        opened.open("many")
        page.get_by_role("button", name="Go on").click()
        expect(page.locator(".summary .figures strong").first).to_have_text(f"{ROWS:,}")
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Download the scored file").click()
        scored = list(csv.DictReader(waiting.value.path().read_text(encoding="utf-8-sig").splitlines()))
        assert len({row["id"] for row in scored}) == len(scored) == ROWS
        # An example fills every field, whatever it is called.
        opened.open("decide")
        with page.expect_response("**/page/decide"):
            page.locator(".example").first.click()
        filled = [page.locator(f'.field[data-feature="{name}"] input').input_value() for name in names]
        assert any(filled)
        assert "[object" not in "".join(filled)
        assert not any(line.startswith("error: ") and "is not a function" in line for line in opened.console)
