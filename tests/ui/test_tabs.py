"""Every tab of the shipped model's page in a real browser: its story, both languages, narrow, cut off."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from export.reading.describe import document_of
from export.reading.description import check_document, checked_policy
from server.model.bundle import Bundle, Decision
from server.model.judge import Judge
from server.model.predictor import Predictor
from tests.support.accessibility import spoken_tree
from tests.support.browser import (
    Served,
    Visit,
    assert_accessible,
    assert_accessible_light_and_dark,
    chromium,
    page_served,
    visit,
)
from tests.support.bundles import CREDIT, compared_rows, sample_rows
from tests.support.prefix_proxy import shown_below
from ui.tabs.head import TABS
from ui.words.wording import Wording
from ui.workbook import child

pytestmark = pytest.mark.whole

SCHEMA = Bundle.load(CREDIT).schema
EXAMPLES = {example["name"]: example["row"] for example in Bundle.load(CREDIT).manifest["examples"]}
#: Rows of a file, each of a shipped example.
CLIENTS = {"safe-one": "safe", "near-one": "borderline", "risky-one": "risky"}
OUTPUT = Path("tests/output")
DESKTOP = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with page_served(CREDIT, tmp_path_factory.mktemp("tabs")) as page:
        yield page


@pytest.fixture(scope="module")
def loaded(browser: Browser, served: Served) -> Iterator[Visit]:
    with visit(browser, served.url, viewport=DESKTOP, locale="en-GB", reduced_motion="reduce") as opened:
        yield opened


@pytest.fixture
def open_page(loaded: Visit) -> Visit:
    """The page on its first tab, the form empty."""
    loaded.open("decide")
    loaded.clear()
    return loaded


def decide(opened: Visit, name: str) -> None:
    """Decide one of the shipped examples."""
    opened.page.locator(f".example[data-name={name}]").click()
    opened.page.locator(
        f"#verdict .panel:is(.below, .otherwise) ~ details.share, #verdict .{name}"
    ).wait_for()


def slide(page: Page, feature: str, share: float) -> None:
    """Drag a slider to a share of its width."""
    page.locator(f'.slider[data-feature="{feature}"] input[type=range]').evaluate(
        "(node, share) => { node.value = Math.round(node.max * share); "
        "node.dispatchEvent(new Event('input', { bubbles: true })); }",
        share,
    )


def headed(panel: Locator, words: str) -> None:
    expect(panel.locator("h2")).to_have_text(words)


def test_scripts_say_a_number_with_the_word_that_goes_with_it(open_page: Visit) -> None:
    said = """([language, ...counts]) => {
        const before = hotrow.language;
        hotrow.language = language;
        const all = counts.map((count) => hotrow.say("rows", { count }));
        hotrow.language = before;
        return all;
    }"""
    english = open_page.page.evaluate(said, ["en", 0, 1, "2", "1,000"])
    assert english == ["0 rows", "1 row", "2 rows", "1,000 rows"]
    french = open_page.page.evaluate(said, ["fr", 0, 1, "1,5", "10"])
    assert french == ["0 ligne", "1 ligne", "1,5 ligne", "10 lignes"]


def test_title_is_painted_before_a_script_has_come_and_from_60_kb(browser: Browser, served: Served) -> None:
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, locale="fr-FR", color_scheme="dark"
    )
    page = context.new_page()
    page.route("**/*.js", lambda _: None)  # they never come
    page.goto(served.url, wait_until="commit")
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    title = page.evaluate("getComputedStyle(document.body, '::before').content")
    assert json.loads(title) == Wording.of(Bundle.load(CREDIT)).title.fr
    awaited = page.evaluate(
        """[performance.getEntriesByType("navigation")[0], ...performance.getEntriesByType("resource")]
          .filter((entry) => entry.entryType === "navigation" || entry.renderBlockingStatus === "blocking")
          .map((entry) => entry.transferSize)"""
    )
    assert len(awaited) == 2  # the document and a sheet
    assert sum(awaited) < 60_000
    page.screenshot(path=OUTPUT / "first-paint.png")
    context.close()


def test_tablist_is_one_stop_of_the_keyboard(open_page: Visit) -> None:
    page = open_page.page
    page.locator("#tab-decide").focus()
    for key, name in (
        ("ArrowRight", "why"),
        ("End", "model"),
        ("ArrowRight", "decide"),
        ("ArrowLeft", "model"),
    ):
        page.keyboard.press(key)
        tab = page.get_by_role("tab", selected=True)
        expect(tab).to_have_id(f"tab-{name}")
        expect(tab).to_be_focused()
        expect(page.get_by_role("tabpanel")).to_have_count(1)
        expect(page.locator(f"#panel-{name}")).to_be_visible()
        assert page.url.endswith(f"#{name}")
    page.go_back()
    expect(page.get_by_role("tab", selected=True)).to_have_id("tab-decide")
    page.go_forward()
    expect(page.get_by_role("tab", selected=True)).to_have_id("tab-model")
    assert page.locator("[role=tab][tabindex='0']").count() == 1


def test_reasons_come_after_the_verdict_and_say_why(open_page: Visit) -> None:
    page = open_page.page
    held: list[Route] = []
    page.route("**/page/reasons", lambda route: held.append(route))  # playwright marks its handlers
    decide(open_page, "risky")
    open_page.heading("Refused")  # while the reasons are not there
    open_page.open("why")
    expect(page.locator("#why .empty")).to_be_visible()
    for route in held:
        route.continue_()
    expect(page.locator("#why .for-applicant")).to_contain_text("Refused. The principal reasons: ")
    assert 1 <= page.locator("#why .badge").count() <= 4
    total = page.locator("#why .total.end .figure").inner_text()
    expect(page.locator("#verdict .figure")).to_have_text(total)
    page.unroute("**/page/reasons")
    # Of a form that has changed they are marked, of one that was refused they are gone.
    open_page.open("decide")
    open_page.field("Age").fill("nothing")
    expect(page.locator("#why.stale .for-applicant")).to_have_count(1)
    open_page.decide()
    expect(page.locator("#verdict")).to_contain_text("Not decided")
    expect(page.locator("#why .for-applicant")).to_have_count(0)
    # So are those of the case before where no new ones come.
    decide(open_page, "risky")
    expect(page.locator("#why .for-applicant")).to_have_count(1)
    page.route("**/page/reasons", lambda route: route.abort())
    decide(open_page, "safe")
    open_page.heading("Accepted")
    expect(page.locator("#why .for-applicant")).to_have_count(0)
    page.unroute("**/page/reasons")
    open_page.console.clear()  # the call that was cut off


def test_sliders_change_the_verdict_the_reasons_and_what_would_turn_it(open_page: Visit) -> None:
    page = open_page.page
    decide(open_page, "risky")
    open_page.heading("Refused")
    open_page.open("what-if")
    left, right = page.locator("#left"), page.locator("#right")
    headed(left, "Refused")
    headed(right, "Refused")
    page.locator("#flip .try[data-feature]").first.click()
    headed(right, "Accepted")
    headed(left, "Refused")
    expect(page.locator("#what-if-why .for-applicant")).to_contain_text("Accepted. What counted most for it")
    expect(page.locator(".slider.changed")).to_have_count(1)
    page.get_by_role("button", name="Back to the case compared with").click()
    headed(right, "Refused")
    # Of many moves the last is what is shown.
    page.evaluate(
        """() => { for (let step = 0; step <= 20; step += 1)
            for (const name of ["EXT_SOURCE_1", "EXT_SOURCE_3"]) {
                const node = document.querySelector(`.slider[data-feature=${name}] input[type=range]`);
                node.value = Math.round((node.max * step) / 20);
                node.dispatchEvent(new Event("input", { bubbles: true })); } }"""
    )
    headed(right, "Accepted")
    risk = right.locator(".figure").text_content() or ""
    page.get_by_role("button", name="Keep as a case to compare with").click()
    headed(left, "Accepted")
    expect(left.locator(".figure")).to_have_text(risk)
    # The case goes back to the form and is decided like any other.
    page.get_by_role("button", name="Decide this one").click()
    open_page.heading("Accepted")
    expect(page.locator("#verdict .figure")).to_have_text(risk)


def test_two_cases_stand_side_by_side(open_page: Visit) -> None:
    page = open_page.page
    decide(open_page, "risky")
    open_page.open("what-if")
    headed(page.locator("#right"), "Refused")
    page.locator("#compare-with").select_option("example-0")
    headed(page.locator("#left"), "Accepted")
    expect(page.locator(".case.left > h2")).to_have_text(re.compile("^Safe"))
    headed(page.locator("#right"), "Refused")
    # What differs is marked; each case's own value is a stop of the slider, and any other can be typed.
    assert page.locator(".slider.changed").count() > 3
    age = page.locator('.slider[data-feature="AGE_YEARS"]')
    expect(age.locator(".typed")).to_have_value(str(EXAMPLES["risky"]["AGE_YEARS"]))
    age.locator("[type=range]").press("ArrowRight")
    age.locator("[type=range]").press("ArrowLeft")
    expect(age.locator(".typed")).to_have_value(str(EXAMPLES["risky"]["AGE_YEARS"]))
    for feature in ("EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3"):
        page.locator(f'.slider[data-feature="{feature}"] .typed').fill("90 %")
        page.locator(f'.slider[data-feature="{feature}"] .typed').press("Tab")
    expect(page.locator('.slider[data-feature="EXT_SOURCE_1"] .typed')).to_have_value("0.9")
    headed(page.locator("#right"), "Accepted")
    boxes = [page.locator(f".case.{side}").bounding_box() for side in ("left", "right")]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == boxes[1]["y"]


def plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def file_of(rows: int) -> dict[str, object]:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["client", *SCHEMA.names])
    for i, row in enumerate(sample_rows(SCHEMA, rows, seed=2)):
        writer.writerow([f"=C{i}", *(plain(row.get(name, "")) for name in SCHEMA.names)])
    return {"name": "clients.csv", "mimeType": "text/csv", "buffer": text.getvalue().encode()}


def test_a_file_is_checked_scored_and_given_back(open_page: Visit, served: Served) -> None:
    page = open_page.page
    open_page.open("many")
    page.locator("#file").set_input_files(file_of(2000))  # type: ignore[arg-type]
    expect(page.locator(".preview .content")).to_contain_text(
        f"{len(SCHEMA)} of {len(SCHEMA)} columns of the model found."
    )
    page.get_by_role("button", name="Score all rows").click()
    expect(page.locator(".summary .figures strong").first).to_have_text("2,000")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download the scored file").click()
    assert waiting.value.suggested_filename == "clients-scored.csv"
    scored = list(csv.DictReader(waiting.value.path().read_text(encoding="utf-8-sig").splitlines()))
    assert len(scored) == 2000
    assert {row["decision"] for row in scored} >= {"refer", "incomplete"}  # values anywhere in their range
    assert scored[7]["client"] == "'=C7"
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download the template").click()
    assert waiting.value.path().read_text().startswith("EXT_SOURCE_1,")


def test_a_file_with_faults_names_line_and_column(open_page: Visit) -> None:
    page = open_page.page
    open_page.open("many")
    lines = [",".join(("AMT_CREDIT", "AGE_YEARS", "AMT_INCOME_TOTAL")), "5000,40,9000", 'much,"7",9000']
    content = {"name": "bad.csv", "mimeType": "text/csv", "buffer": "\n".join(lines).encode()}
    page.locator("#file").set_input_files(content)  # type: ignore[arg-type]
    faults = page.locator(".preview .faults-list li")
    expect(faults.first).to_contain_text("line 3: Amount of the credit must be a number, like 513,000")
    work_through(open_page, content)
    page.locator("#file").set_input_files({**content, "buffer": b"\x89PNG\r\n\x1a\n1,2"})  # type: ignore[arg-type]
    expect(page.locator(".many > .problem")).to_contain_text("got other bytes")
    page.locator("#file").set_input_files({**content, "buffer": b"a\n1\n"})  # type: ignore[arg-type]
    expect(page.locator(".many > .problem")).to_contain_text("none of them is one")
    page.locator("#file").set_input_files({**content, "buffer": b"\xe9\x00"})  # type: ignore[arg-type]
    expect(page.locator(".many > .problem")).to_contain_text(
        "expected CSV or an .xlsx workbook, got other bytes"
    )
    broken = 'AMT_CREDIT,"my\nnote",AGE_YEARS,AMT_INCOME_TOTAL\n5000,"a\nb",40,9000\n'
    page.locator("#file").set_input_files({**content, "buffer": broken.encode()})  # type: ignore[arg-type]
    expect(page.locator(".preview .file")).to_have_text("bad.csv · 1 row")
    page.locator("#file").set_input_files({**content, "buffer": lines[0].encode() + b"\n"})  # type: ignore[arg-type]
    expect(page.locator(".many > .problem")).to_have_text("The file has no rows to score.")
    expect(page.locator(".preview .score")).to_be_hidden()
    stray = ("\n".join(lines[:2]) + '\n5000,"40,9000\n' + "5000,40,9000\n" * 500_000).encode()
    page.locator("#file").set_input_files({**content, "buffer": stray})  # type: ignore[arg-type]
    expect(page.locator(".many > .problem")).to_contain_text("is a quote never closed?")


def work_through(opened: Visit, content: dict[str, Any]) -> None:
    """The list of rows: filter, repair what was refused in place, open one on the sheet, save the file."""
    page = opened.page
    names = ["client", *SCHEMA.names]
    lines = [
        names,
        *([name, *(plain(EXAMPLES[e].get(n, "")) for n in SCHEMA.names)] for name, e in CLIENTS.items()),
    ]
    lines[2][names.index("AMT_CREDIT")], lines[2][names.index("AGE_YEARS")] = "much", "7"
    lines[3] = lines[3][:-1]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(lines)
    page.locator("#file").set_input_files({**content, "buffer": text.getvalue().encode()})  # type: ignore[arg-type]
    page.get_by_role("button", name="Score all rows").click()
    work, filtered = page.locator(".work"), page.get_by_label("Show", exact=True)
    expect(filtered).to_have_value("bad")  # what is to do comes first
    expect(work.locator("tbody tr")).to_have_count(2)
    assert_accessible(opened, "rows to repair")
    work.get_by_label("Amount of the credit").fill("513,000")
    age, again = work.get_by_label("Age", exact=True), work.get_by_role("button", name="line 3")
    again.click()
    expect(page.locator("#spoken")).to_have_text("Line 3 is still not accepted.")
    expect(work.get_by_label("Amount of the credit")).to_have_count(0)
    age.fill("44")
    age.press("Enter")
    expect(work.locator("tbody tr")).to_have_count(1)
    whole = work.get_by_label("The whole line")
    expect(whole).to_be_focused()  # the row in its place
    whole.fill(whole.input_value() + ",1")
    work.get_by_role("button", name="line 4").click()
    expect(page.locator("#spoken")).to_have_text("Line 4: Refused.")
    expect(page.locator(".summary .figures")).not_to_contain_text("lines to correct")
    filtered.select_option(label="Refused (1)")
    expect(work.locator("tbody tr")).to_have_count(1)
    expect(work.locator("tbody")).to_contain_text("risky-one")
    page.screenshot(path=OUTPUT / "page-work-list.png")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download the scored file").click()
    scored = list(csv.DictReader(waiting.value.path().read_text(encoding="utf-8-sig").splitlines()))
    assert [(row["client"], row["error"]) for row in scored] == [(name, "") for name in CLIENTS]
    assert (scored[1]["AMT_CREDIT"], scored[1]["AGE_YEARS"]) == ("513,000", "44")
    assert len({row["id"] for row in scored}) == len(CLIENTS)
    work.get_by_role("button", name="Open on the sheet").click()
    opened.heading("Refused")
    assert opened.field("Age").input_value() == str(EXAMPLES["risky"]["AGE_YEARS"])
    opened.open("many")


def test_columns_of_other_names_are_mapped_once_and_scored(open_page: Visit) -> None:
    page = open_page.page
    open_page.open("many")
    file = file_of(30)
    content = re.sub(rb"\bAMT_CREDIT\b", b"Loan sum", file["buffer"], count=1)  # type: ignore[call-overload]
    content = content.replace(b"AGE_YEARS", b'"Age, years"', 1)
    page.locator("#file").set_input_files({**file, "buffer": content})  # type: ignore[arg-type]
    expect(page.locator(".many > .problem")).to_contain_text("expected the column")
    expect(page.get_by_role("button", name="Score all rows")).to_have_count(0)  # nothing can be scored yet
    assert page.get_by_label("Age, years").input_value() == "AGE_YEARS"
    page.get_by_label("Loan sum").select_option("AMT_CREDIT")
    assert_accessible(open_page, "columns to map")
    page.locator(".mapping").scroll_into_view_if_needed()
    page.screenshot(path=OUTPUT / "page-mapping.png")
    page.get_by_role("button", name="Use these columns").click()
    page.get_by_role("button", name="Score all rows").click()
    expect(page.locator(".summary .figures strong").first).to_have_text("30")
    expect(page.locator(".many > .problem")).to_have_text("")


#: What a person sees of the page at 200 %: half of the screen's pixels, and what is wrong with it.
_CUT = """() => {
    const wrong = [];
    const root = document.documentElement;
    if (root.scrollWidth > innerWidth) wrong.push(`the page is ${root.scrollWidth} wide`);
    const seen = (node) => node.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
    for (const node of document.querySelectorAll(".panel-of-tab *, #header *")) {
        if (!seen(node) || node.closest("[aria-hidden=true], svg, .visually-hidden")) continue;
        const style = getComputedStyle(node);
        const cuts = style.overflowX === "hidden" || style.overflowX === "clip";
        const isWider = node.scrollWidth > node.clientWidth + 1 && node.clientWidth > 1;
        if (cuts && isWider && node.textContent.trim())
            wrong.push(`cut: ${node.tagName}.${node.className}: ${node.textContent.trim().slice(0, 40)}`);
    }
    const controls = "button, select, a[href], input:not([type=file], [type=radio])";
    for (const node of document.querySelectorAll(controls)) {
        if (!seen(node) || !node.offsetParent) continue;
        node.scrollIntoView({ block: "center", inline: "nearest" });
        const { left, top, width, height } = node.getBoundingClientRect();
        const on = document.elementFromPoint(left + width / 2, top + height / 2);
        if (on && !node.contains(on) && !on.contains(node) && !on.closest("label")?.contains(node))
            wrong.push(`covered: ${node.tagName}.${node.className} by ${on.tagName}.${on.className}`);
    }
    return wrong;
}"""


def test_at_200_percent_nothing_is_cut_or_covered_on_any_tab(open_page: Visit) -> None:
    page = open_page.page
    page.set_viewport_size({"width": DESKTOP["width"] // 2, "height": DESKTOP["height"] // 2})
    try:
        decide(open_page, "risky")
        for tab in TABS:
            open_page.open(tab)
            assert page.evaluate(_CUT) == [], tab
            page.screenshot(path=OUTPUT / f"page-200-{tab}.png")
    finally:
        page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]


def test_of_two_files_the_last_counts_and_a_stop_says_what_was_done(open_page: Visit) -> None:
    page = open_page.page
    open_page.open("many")
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        held.append(route)
        if len(held) > 1:
            route.continue_()

    page.route("**/page/many/check*", hold_the_first)
    with page.expect_request("**/page/many/check*"):
        page.locator("#file").set_input_files({**file_of(5), "name": "first.csv"})  # type: ignore[arg-type]
    page.locator("#file").set_input_files({**file_of(7), "name": "second.csv"})  # type: ignore[arg-type]
    expect(page.locator(".preview .file")).to_have_text("second.csv · 7 rows")
    with page.expect_response("**/page/many/check*"):
        held[0].continue_()
    scoring = re.compile(r"/page/many\?")
    page.route(scoring, lambda route: held.append(route))
    with page.expect_request(scoring):
        page.get_by_role("button", name="Score all rows").click()
    expect(page.locator(".preview .file")).to_have_text("second.csv · 7 rows")
    page.get_by_role("button", name="Stop").click()
    page.unroute(scoring)
    held[2].continue_()
    # What was under way is counted and logged: it is in the file, and nothing is done twice.
    expect(page.locator(".summary .figures strong").first).to_have_text("7")
    page.unroute("**/page/many/check*")


def test_a_workbook_comes_in_and_a_stop_is_gone_on_with(open_page: Visit) -> None:
    page = open_page.page
    open_page.open("many")
    file = file_of(800)
    text = file["buffer"].decode()  # type: ignore[attr-defined]
    book = {"name": "clients.xlsx", "mimeType": "", "buffer": child.workbook_of(text.encode(), ",", ".")}
    page.locator("#file").set_input_files(book)  # type: ignore[arg-type]
    expect(page.locator(".preview .file")).to_have_text("clients.xlsx · 800 rows")
    scoring = re.compile(r"/page/many\?")
    sent: list[Route] = []

    def hold_the_second(route: Route) -> None:
        sent.append(route)
        if len(sent) != 2:
            route.continue_()

    page.route(scoring, hold_the_second)
    page.get_by_role("button", name="Score all rows").click()
    while len(sent) < 2:
        page.wait_for_timeout(20)  # playwright hears of requests while it waits
    page.get_by_role("button", name="Stop").click()
    sent[1].continue_()
    expect(page.locator(".many > .problem")).to_contain_text("Go on scores the rest")
    assert len(sent) == 2
    page.unroute(scoring)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".summary .figures strong").first).to_have_text("800")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download the scored file").click()
    assert waiting.value.suggested_filename == "clients-scored.csv"
    scored = list(csv.DictReader(waiting.value.path().read_text(encoding="utf-8-sig").splitlines()))
    assert len({row["id"] for row in scored}) == len(scored) == 800
    assert all(row["reasons"] for row in scored if row["decision"] == "refuse")


def test_operations_tick_only_while_they_are_open(browser: Browser, served: Served) -> None:
    with visit(browser, "about:blank") as blank:
        page = blank.page
        page.clock.install()
        ticks: list[str] = []
        page.on(
            "request",
            lambda request: ticks.append(request.url) if "/page/operations" in request.url else None,
        )
        page.goto(served.url)
        page.locator("#form .decide").wait_for()
        page.clock.run_for(20_000)
        assert ticks == []
        page.locator("#tab-operations").click()
        expect(page.locator("#operations")).to_contain_text("requests a second")
        for _ in range(2):
            with page.expect_request("**/page/operations"):
                page.clock.run_for(2_100)
        page.locator("#tab-model").click()
        page.clock.run_for(2_100)
        before = len(ticks)
        page.clock.run_for(60_000)
        assert len(ticks) == before


def test_model_tab_has_proof_plots_and_card(open_page: Visit) -> None:
    page = open_page.page
    open_page.open("model")
    expect(page.locator(".model")).to_contain_text(
        f"{compared_rows(CREDIT)} rows compared with the trained model, 0 bits different"
    )
    expect(page.locator(".model svg.plot")).to_have_count(3)
    expect(page.locator(".dependence li")).to_have_count(len(SCHEMA))
    expect(page.get_by_role("heading", name="Credit default risk")).to_be_visible()


def test_moved_limit_says_who_would_be_decided_otherwise(open_page: Visit, tmp_path: Path) -> None:
    """And by how many, as a judge with that limit decides; nothing of it is logged or published."""
    page, bundle = open_page.page, Bundle.load(CREDIT)
    rows = bundle.golden_fields()
    text = io.StringIO(newline="")
    csv.writer(text).writerows(
        [SCHEMA.names, *([plain(row.get(n, "")) for n in SCHEMA.names] for row in rows)]
    )
    open_page.open("many")
    content = {"name": "golden.csv", "mimeType": "text/csv", "buffer": text.getvalue().encode()}
    page.locator("#file").set_input_files(content)  # type: ignore[arg-type]
    page.get_by_label("A trial: neither logged nor counted").check()
    page.get_by_role("button", name="Score all rows").click()
    expect(page.locator(".summary .figures strong").first).to_have_text(str(len(rows)))
    open_page.open("model")
    studio = page.locator(".studio")
    page.get_by_label("Cases", exact=True).select_option("file")
    expect(studio.locator(".count")).to_have_text("Decided otherwise: 0. Listed: 0.")
    limit = page.get_by_label("Accepted → Refused at")
    limit.fill("3")
    expect(studio.locator(".problem")).to_contain_text("the first limit to be at least 4.8 %")
    expect(page.get_by_role("button", name="Download the policy part")).to_be_disabled()
    limit.fill("20")
    predictor = Predictor(bundle)
    matrix = np.array([np.frombuffer(SCHEMA.encode(row)) for row in rows])
    probabilities = np.array([predictor.predict(SCHEMA.encode(row))[0] for row in rows])
    assert bundle.policy is not None
    counts, decided_by = [], []
    for threshold in (bundle.decision.threshold, 0.2):
        judge = Judge(bundle.policy, SCHEMA.names, threshold, "accept", "refuse")
        decided_by.append(judge.outcomes(judge.verdicts(probabilities, matrix)))
        counts.append(np.bincount(decided_by[-1], minlength=len(judge.decisions)))
    flipped = int((decided_by[0] != decided_by[1]).sum())
    assert flipped > 20
    expect(studio.locator(".count")).to_have_text(f"Decided otherwise: {flipped}. Listed: 20.")
    shown = [
        cell.split(" ")[0]
        for cell in studio.locator("tbody").first.locator("td:nth-child(3)").all_inner_texts()
    ]
    assert [int(count) for count in shown] == counts[1].tolist()
    expect(studio.locator(".flips li").first).to_contain_text("Refused → Accepted")
    # The groups of the held-out cases move along, counted at the limit that lies nearest.
    counted = bundle.manifest["evaluation"]["held_out"]["groups_by_limit"]
    at = min(range(len(counted["limits"])), key=lambda i: abs(counted["limits"][i] - 0.2))
    expect(studio.locator(".counted")).to_contain_text(
        f"{100 * counted['limits'][at]:.2f}\N{NO-BREAK SPACE}%"
    )
    accepted = {
        name: 1 - (part["false_positive"][at] + part["true_positive"][at]) / part["rows"]
        for name, part in counted["groups"]["age"].items()
    }
    highest = max(accepted.values())
    for cells, (name, selected) in zip(
        studio.locator(".by-group .scroll").nth(1).locator("tbody tr").all(), accepted.items(), strict=True
    ):
        said = cells.inner_text().replace("\N{NO-BREAK SPACE}", " ")
        assert said.startswith(f"{name}\t")
        assert f"\t{100 * selected:.1f} % (" in said
        assert f"\t{100 * selected / highest:.1f} %" in said
        assert ("below four fifths" in said) == (selected / highest < 0.8)
    # What a mistake costs is typed; it is expected of the accepted who fail, and of the refused who do not.
    missed = page.get_by_label("Cost of a missed default")
    expect(missed).to_have_value("10")
    missed.fill("-1")
    expect(studio.locator(".problem")).to_have_text("expected costs of 0 or more")
    missed.fill("5")
    expected = np.select(
        [decided_by[1] == 0, decided_by[1] == 1], [5 * probabilities, 1 - probabilities]
    ).mean()
    expect(studio.locator(".cost")).to_contain_text(f"{expected:.3f} then.")
    expect(studio.locator(".basis")).to_contain_text("5 for a missed case")
    assert_accessible(open_page, "limit studio")
    page.set_viewport_size({"width": 390, "height": 844})
    assert studio.evaluate("node => node.getBoundingClientRect().right") <= 390
    page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]
    studio.scroll_into_view_if_needed()
    page.screenshot(path=OUTPUT / "page-studio.png")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download the policy part").click()
    assert waiting.value.suggested_filename == "policy.yaml"
    written = waiting.value.path().rename(tmp_path / "policy.yaml")
    assert written.read_text().startswith(f"# Limits weighed on {len(rows)} cases, a missed case as 5, ")
    part = document_of(written)
    assert part["threshold"] == 0.2
    assert part["policy"] == bundle.manifest["policy"]
    check_document(part)  # the next export takes it
    weighed = Decision(part["threshold"], *part["decisions"])
    assert checked_policy(part, weighed, SCHEMA) == weighed
    page.get_by_role("button", name="Back to the limits and costs of the model").click()
    expect(limit).to_have_value("9.6644")
    expect(missed).to_have_value("10")
    expect(studio.locator(".count")).to_contain_text("Decided otherwise: 0.")


def test_what_is_shared_is_the_request_the_answer_and_a_call_of_this_page(
    open_page: Visit, served: Served
) -> None:
    page = open_page.page
    decide(open_page, "safe")
    page.get_by_text("Share: JSON and curl").click()
    assert served.url + "/predict" in page.locator("[data-block=curl]").inner_text()
    answer = json.loads(page.locator("[data-block=answer]").inner_text())
    assert answer["decision"] == "accept"
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save as JSON").click()
    saved = json.loads(waiting.value.path().read_text())
    assert saved["answer"] == answer
    assert saved["request"]["AMT_CREDIT"] == EXAMPLES["safe"]["AMT_CREDIT"]


def test_french_browser_reads_french_and_may_switch(browser: Browser, served: Served) -> None:
    with visit(browser, served.url, locale="fr-FR", viewport=DESKTOP) as opened:
        page = opened.page
        assert page.evaluate("document.documentElement.lang") == "fr"
        amount = opened.field("Montant du crédit")
        amount.fill("600000,5")
        amount.blur()
        assert amount.input_value() == "600\N{NARROW NO-BREAK SPACE}000,5"
        opened.field("Revenu total").fill("150 000")
        opened.field("Âge").fill("44")
        page.get_by_role("button", name="Décider", exact=True).click()
        expect(page.locator("#verdict h2")).to_have_text(re.compile("Acceptée|Refusée|Incomplet"))
        assert (
            json.loads(page.locator("[data-block=request]").text_content() or "")["AMT_CREDIT"] == 600_000.5
        )
        for name, words in TABS.items():
            assert page.locator(f"#tab-{name}").inner_text() == words.fr
        opened.open("why")
        expect(page.locator("#why")).to_contain_text("Risque de défaut de ce cas")
        opened.open("what-if")
        expect(page.locator("#right h2")).to_have_text(re.compile("Acceptée|Refusée|Incomplet"))
        opened.open("operations")
        expect(page.locator("#operations")).to_contain_text("requêtes par seconde")
        opened.open("model")
        expect(page.locator(".model")).to_contain_text("lignes comparées au modèle entraîné, 0 bit différent")
        opened.open("decide")
        assert page.title() == "Demande de crédit · Hotrow"
        amount.fill("")
        page.get_by_role("button", name="Décider", exact=True).click()
        expect(page.locator("#verdict")).to_contain_text("1 champ à corriger")
        expect(page.locator("#verdict")).to_contain_text("Montant du crédit manque, par exemple")
        amount.fill("1 512,25")
        page.get_by_role("button", name="EN", exact=True).click()
        assert opened.field("Amount of the credit").input_value() == "1,512.25"
        expect(page.locator("#verdict")).to_contain_text("1 field to correct")
        assert page.evaluate("document.documentElement.lang") == "en"
        assert "language=en" in page.url  # the address says it: it can be linked to, and outlives a reload
        page.get_by_role("button", name="FR", exact=True).click()
        page.set_viewport_size({"width": 360, "height": 740})
        decide(opened, "borderline")
        for name in TABS:
            opened.open(name)
            page.locator(
                f"#panel-{name} :is(.panel, .for-applicant, .drop, .tiles, .seal, .search-form)"
            ).first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
        assert opened.console == []


def test_a_cut_network_is_said_and_no_old_verdict_stands_for_a_new_form(open_page: Visit) -> None:
    page = open_page.page
    decide(open_page, "safe")
    open_page.heading("Accepted")
    page.context.set_offline(True)
    expect(page.locator("#cut")).to_be_visible()
    page.locator(".example[data-name=risky]").click()
    expect(page.locator("#verdict.stale")).to_be_visible()
    expect(page.locator("#form .failure")).to_contain_text(
        "nothing was decided. What you typed is still here"
    )
    page.locator("#tab-operations").click()  # it asks again and again, and never leaves the page
    open_page.open("what-if")
    open_page.open("many")
    page.locator("#file").set_input_files(file_of(3))  # type: ignore[arg-type]
    open_page.open("decide")
    expect(page.locator("#cut")).to_be_visible()
    page.context.set_offline(False)
    expect(page.locator("#cut")).to_be_hidden()
    expect(page.locator("#form .failure")).to_have_text(
        "The server is back, and nothing was decided: decide again."
    )
    open_page.decide()
    open_page.heading("Refused")
    expect(page.locator("#form .failure")).to_have_text("")
    assert open_page.field("Age").input_value() == str(EXAMPLES["risky"]["AGE_YEARS"])
    open_page.console.clear()  # the calls that were cut off


def test_a_decision_is_looked_up_printed_and_decided_otherwise(open_page: Visit) -> None:
    page = open_page.page
    decide(open_page, "risky")
    open_page.heading("Refused")
    expect(page.locator("#verdict")).to_contain_text("neither logged nor counted")
    page.get_by_label("Case number", exact=True).fill("C-17")
    open_page.decide()
    page.locator("#verdict .papers").wait_for()
    with page.context.expect_page() as opening:
        page.get_by_role("link", name="Letter").click()
    letter = opening.value
    expect(letter.locator("h1")).to_contain_text("Your application of")
    expect(letter.locator("footer")).to_contain_text("equal to the bit")
    assert_accessible(Visit(letter), "letter")
    # One page in print.
    letter.emulate_media(media="print")
    assert letter.locator("main").evaluate("node => node.getBoundingClientRect().height") < 1000
    letter.close()
    with page.context.expect_page() as opening:
        page.get_by_role("link", name="Record").click()
    expect(opening.value.locator("h1")).to_be_visible()
    assert_accessible(Visit(opening.value), "record")
    opening.value.close()
    # What a person says stands beside the verdict, and is looked up with it.
    person = page.get_by_role("button", name="Note, or decide otherwise")
    person.click()
    beside = page.locator("#verdict .person")
    beside.get_by_label("Decision", exact=True).select_option("accept")
    beside.get_by_role("button", name="Write it down").click()
    expect(beside.locator(".problem")).to_contain_text("expected a reason")
    beside.get_by_label("Note for the file").fill("Called at noon.")
    page.get_by_role("button", name="FR", exact=True).click()
    expect(beside.get_by_role("button", name="Consigner")).to_be_visible()
    page.get_by_role("button", name="EN", exact=True).click()
    beside.get_by_label("Reason, if it is another").fill("Earns more.")
    expect(beside.get_by_label("Note for the file")).to_have_value("Called at noon.")
    assert_accessible(open_page, "a person's decision")
    beside.get_by_role("button", name="Write it down").click()
    expect(beside).to_contain_text("Accepted. Earns more. Called at noon.")
    expect(page.locator("#spoken")).to_have_text("Written down.")
    person.click()
    expect(beside).to_be_empty()
    open_page.open("look-up")
    page.get_by_label("Answer or case number").fill("C-17")
    page.get_by_role("button", name="Find", exact=True).click()
    found = page.locator(".found-decision")
    expect(found.locator(".replay")).to_contain_text("equal to the bit")
    expect(page.locator("#spoken")).to_contain_text("equal to the bit")
    expect(found).to_contain_text("Accepted. Earns more. Called at noon.")
    found.get_by_label("Decision", exact=True).select_option("accept")
    found.get_by_role("button", name="Write it down").click()
    expect(found.locator(".problem")).to_contain_text("expected a reason")
    found.get_by_label("Reason, if it is another").fill("Pays on time.")
    found.get_by_role("button", name="Write it down").click()
    expect(found).to_contain_text("Accepted. Pays on time.")
    page.get_by_label("Answer or case number").fill("C-17")
    with page.expect_response("**/page/look-up"):
        page.get_by_role("button", name="Find", exact=True).click()
    expect(found.first).to_contain_text("C-17")
    assert_accessible(open_page, "look up")
    tree = spoken_tree(page)
    assert any(line.startswith('combobox "Decision"') for line in tree)


def test_behind_a_prefix_everything_is_found(browser: Browser, served: Served) -> None:
    missing: list[str] = []
    with shown_below("/hotrow", served.url) as url, visit(browser, "about:blank", viewport=DESKTOP) as opened:
        page = opened.page
        page.on("response", lambda answer: missing.append(answer.url) if answer.status >= 400 else None)
        page.goto(url)
        decide(opened, "risky")
        opened.decide()
        page.locator("#verdict .papers").wait_for()
        assert url.rstrip("/") + "/predict" in (page.locator("[data-block=curl]").text_content() or "")
        with page.context.expect_page() as opening:
            page.get_by_role("link", name="Letter").click()
        expect(opening.value.locator("h1")).to_contain_text("Your application of")
        opened.open("operations")
        page.locator("#operations .tiles").wait_for()
        assert missing == []


def test_axe_finds_nothing_on_any_tab_light_or_dark(loaded: Visit, served: Served) -> None:
    """And screenshots for people to look at: `tests/output/tab-*.png`."""
    OUTPUT.mkdir(exist_ok=True)
    page = loaded.page
    loaded.open("decide")
    for name, heading in (("safe", "Accepted"), ("borderline", "Accepted"), ("risky", "Refused")):
        decide(loaded, name)
        loaded.heading(heading)
    page.get_by_text("Share: JSON and curl").click()
    assert_accessible_light_and_dark(loaded, "decide", OUTPUT)
    loaded.open("why")
    page.locator("#why .waterfall").wait_for()
    assert_accessible_light_and_dark(loaded, "why", OUTPUT)
    loaded.open("what-if")
    page.locator("#flip .try").first.wait_for()
    slide(page, "EXT_SOURCE_3", 0.6)
    page.locator("#what-if-why .waterfall").wait_for()
    expect(page.locator("#spoken")).to_have_text(re.compile(r"^(Accepted|Refused), \d"))
    assert any(line.startswith('slider "External score 3"') for line in spoken_tree(page))
    slider = page.locator('.slider[data-feature="EXT_SOURCE_3"] [type=range]')
    expect(slider).to_have_attribute("aria-valuetext", re.compile(r"^0\.\d+$"))
    assert_accessible_light_and_dark(loaded, "what-if", OUTPUT)
    loaded.open("many")
    page.locator("#file").set_input_files(file_of(200))  # type: ignore[arg-type]
    page.get_by_role("button", name="Score all rows").click()
    page.locator(".summary .figures strong").first.wait_for()
    assert_accessible_light_and_dark(loaded, "many", OUTPUT)
    loaded.open("operations")
    page.locator("#operations .tiles").wait_for()
    assert_accessible_light_and_dark(loaded, "operations", OUTPUT)
    loaded.open("model")
    loaded.page.locator("#reference li").first.wait_for()
    assert_accessible_light_and_dark(loaded, "model", OUTPUT)
    assert loaded.console == []
    assert loaded.hosts == {served.url.removeprefix("http://")}


def test_wide_form_shows_what_matters_and_a_login_is_enough_for_every_call(
    browser: Browser, wide: Path, tmp_path: Path
) -> None:
    login = {"username": "ann", "password": "secret"}
    with page_served(wide, tmp_path, HOTROW_UI_AUTH="ann:secret") as served:
        context = browser.new_context()
        assert context.request.get(served.url).status == 401
        context.close()
        with visit(browser, served.url, viewport=DESKTOP, http_credentials=login) as opened:
            page = opened.page
            shown = page.locator("#form .field:visible")
            expect(shown).to_have_count(30)
            page.get_by_role("searchbox").fill("x59")
            expect(shown).to_have_count(11)
            page.get_by_label("X597", exact=True).fill("1.5")
            page.get_by_role("searchbox").fill("nothing like it")
            expect(page.get_by_text("No field is called so.")).to_be_visible()
            page.get_by_role("searchbox").fill("")
            expect(shown).to_have_count(31)  # what is filled in stays in sight
            opened.decide()
            page.locator("#verdict .origin").wait_for()
            assert_accessible(opened, "wide")
            opened.open("why")
            page.locator("#why .waterfall").wait_for()
            opened.open("what-if")
            expect(page.locator(".slider")).to_have_count(30)
            opened.open("operations")
            page.locator("#operations .tiles").wait_for()
            assert opened.console == []
