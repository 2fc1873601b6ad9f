"""A page to test as a person would: a small loan bundle, `python -m ui`, and a real browser."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from loadtest.harness.subject import free_port, python, running
from server.model.bundle import Bundle, Decision
from server.model.schema import Feature, Schema
from tests.support.bundles import sample_rows, train

#: What a busy machine may need for what takes a moment, in ms.
PATIENCE_MS = 120_000
expect.set_options(timeout=PATIENCE_MS)
#: Chromium asks its maker for updates and field trials unless it is told not to.
FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

LOAN = Schema(
    [
        Feature(
            "amount",
            label="Amount asked for",
            help="From the application.",
            unit="EUR",
            group="The loan",
            minimum=0,
            maximum=1e7,
            default=12_000,
            nullable=False,
        ),
        Feature(
            "months",
            "integer",
            label="Time to repay",
            unit="months",
            group="The loan",
            minimum=6,
            maximum=120,
        ),
        Feature("delay", label="Largest delay", unit="days", group="History", minimum=0, maximum=1000),
        # Labels are other people's text: they must stand on the page as they are.
        Feature(
            "school",
            "category",
            label="Education <b>${1}</b>",
            group="The person & more",
            categories=("primary", "secondary", "higher"),
            category_labels=("Primary school", "Secondary school", 'University "or" {{more}}'),
        ),
        Feature("guarantor", "flag", label="Has a guarantor", group="The person & more"),
    ]
)
WORDING = {
    "title": "Loan application",
    "case": "applicant",
    "probability": "risk of default",
    "missed": "a missed default",
    "false_alarm": "a good applicant refused",
}
SAFE = {"amount": 5000, "months": 24, "delay": 0, "school": "higher", "guarantor": True}
RISKY = {"amount": 9_600_000.5, "delay": 950, "school": "primary", "guarantor": False}


def loan_bundle(out: Path) -> Bundle:
    """A bundle with every kind of field: a long delay means refusal, an unknown one too."""
    import lightgbm

    from export.assemble import write_conversion
    from export.lightgbm.model import convert_lightgbm

    rows = sample_rows(LOAN, 2000)
    matrix = np.array([np.frombuffer(LOAN.encode(row)) for row in rows])
    delay = matrix[:, 2]
    target = np.isnan(delay) | (delay > 300)
    text = train(matrix, target, LOAN, 20)
    probabilities = np.asarray(lightgbm.Booster(model_str=text).predict(matrix))
    nearest = rows[int(np.argmin(np.where(probabilities < 0.3, 0.3 - probabilities, 1)))]
    titled = {"safe": SAFE, "borderline": nearest, "risky": RISKY}
    examples = [{"name": n, "title": f"A {n} applicant", "row": row} for n, row in titled.items()]
    return write_conversion(
        out,
        convert_lightgbm(text),
        schema=LOAN,
        name="loan",
        version="7",
        decision=Decision(0.3, "accept", "refuse", 10, 1),
        golden=rows[:200],
        manifest={"examples": examples, "wording": WORDING},
    )


@dataclass
class Served:
    """A running page: its address, what it printed, its log, and its process once it is ready."""

    url: str
    terminal: Path
    logs: Path
    process: subprocess.Popen[bytes] | None = None


@contextmanager
def page_served(bundle: Path, folder: Path, port: int = 0, **environment: str) -> Iterator[Served]:
    """`python -m ui` with this bundle, ready, at a port of its own unless it is named."""
    served = Served(f"http://127.0.0.1:{port or free_port()}", folder / "terminal.txt", folder / "logs")
    at = served.url.rpartition(":")[2]
    with running(
        "ui",
        python("-m", "ui", "--model", str(bundle), "--port", at, "--log-dir", str(served.logs)),
        served.url,
        "/readyz",
        environment=environment,
        log=served.terminal,
    ) as subject:
        served.process = subject.process
        yield served


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; a test without it is skipped, and fails where CI=true."""
    path = shutil.which("chromium")
    if path is None:
        words = "needs chromium: run `make system`"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS])
        yield browser
        browser.close()


@dataclass
class Visit:
    """One open page, with everything it said on the console and asked for."""

    page: Page
    console: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    @property
    def verdict(self) -> str:
        """The text of the response."""
        return self.page.locator("#verdict").inner_text().replace("\N{NO-BREAK SPACE}", " ")

    def heading(self, words: str) -> None:
        """Wait until the verdict is headed so."""
        self.page.locator("#verdict h2", has_text=words).wait_for()

    def field(self, label: str) -> Any:
        """The text box or list of a label."""
        return self.page.locator("#form").get_by_label(label, exact=True)

    def example(self, title: str) -> None:
        """Press the button of an example."""
        self.page.locator(".example", has_text=title).click()

    def open(self, tab: str) -> None:
        """Open a tab."""
        self.page.locator(f"#tab-{tab}").click()
        self.page.locator(f"#panel-{tab}").wait_for()

    def decide(self) -> None:
        """Press the button and wait for the response."""
        with self.page.expect_response("**/page/decide"):
            self.page.get_by_role("button", name="Decide", exact=True).click()

    def clear(self) -> None:
        """Empty form and verdict."""
        self.page.get_by_role("button", name="Clear").click()
        self.heading("No decision yet")


def assert_accessible(opened: Visit, state: str, *rules: str) -> None:
    """axe-core finds nothing on the page as it stands: by these of its rules, or by all."""
    found = Axe().run(opened.page, options={"runOnly": list(rules)} if rules else {})
    assert found.violations_count == 0, f"{state}: {found.generate_report()}"


def assert_accessible_light_and_dark(opened: Visit, state: str, pictures: Path | None = None) -> None:
    """The same in light, and in dark for contrast, which alone differs; `pictures` gets a shot of each."""
    for scheme in ("dark", "light"):
        rules = ["color-contrast"] if scheme == "dark" else []
        opened.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        if pictures is not None:
            opened.page.screenshot(path=pictures / f"tab-{state}-{scheme}.png")
        assert_accessible(opened, f"{state}, {scheme}", *rules)


@contextmanager
def visit(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """The page in a browser of its own, loaded; `options` are those of a playwright context."""
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    with visit_again(context, url) as opened:
        yield opened
    context.close()


@contextmanager
def visit_again(context: BrowserContext, url: str) -> Iterator[Visit]:
    """One more page of the same browser, which has what the page is made of."""
    page = context.new_page()
    opened = Visit(page)
    page.on("console", lambda message: opened.console.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: opened.console.append(f"error: {error}"))
    page.on("request", lambda request: opened.hosts.add(urlsplit(request.url).netloc))
    page.goto(url)
    if url != "about:blank":
        page.locator("#form .decide").wait_for(state="attached")
        page.wait_for_function("document.body.dataset.tab")
    yield opened
    page.close()
