"""Every tab of the shipped model's page in a real browser: its story, both languages, narrow, cut off."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from server.model.bundle import Bundle
from tests.support.browser import Served, Visit, assert_accessible, chromium, page_served, visit
from tests.support.bundles import CREDIT, compared_rows, sample_rows
from ui.tabs.head import TABS

pytestmark = pytest.mark.whole

SCHEMA = Bundle.load(CREDIT).schema
EXAMPLES = {example["name"]: example["row"] for example in Bundle.load(CREDIT).manifest["examples"]}
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
    expect(page.locator("#why .for-applicant")).to_contain_text("The application was refused. The principal")
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
    page.locator("#flip .try").first.click()
    headed(right, "Accepted")
    headed(left, "Refused")
    expect(page.locator("#what-if-why .for-applicant")).to_contain_text("was accepted")
    expect(page.locator(".slider.changed")).to_have_count(1)
    page.get_by_role("button", name="Back to this case").click()
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
    open_page.open("what-if")
    page.locator("#compare-with").select_option("example-0")
    headed(page.locator("#left"), "Accepted")
    headed(page.locator("#right"), "Accepted")
    slide(page, "EXT_SOURCE_2", 0)
    slide(page, "EXT_SOURCE_3", 0)
    slide(page, "EXT_SOURCE_1", 0)
    headed(page.locator("#right"), "Refused")
    headed(page.locator("#left"), "Accepted")
    boxes = [page.locator(f".case.{side}").bounding_box() for side in ("left", "right")]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == boxes[1]["y"]


def file_of(rows: int) -> dict[str, object]:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["client", *SCHEMA.names])
    for i, row in enumerate(sample_rows(SCHEMA, rows, seed=2)):
        values = [int(v) if isinstance(v := row.get(name, ""), bool) else v for name in SCHEMA.names]
        writer.writerow([f"=C{i}", *values])
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
    assert {row["decision"] for row in scored} == {"accept", "refuse"}
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
    expect(faults.first).to_contain_text("line 3: Amount of the credit expected a number between")
    page.locator("#file").set_input_files({**content, "buffer": b"a\n1\n"})  # type: ignore[arg-type]
    expect(page.locator(".many .problem")).to_contain_text("none of them is one")
    page.locator("#file").set_input_files({**content, "buffer": b"\xe9\x00"})  # type: ignore[arg-type]
    expect(page.locator(".many .problem")).to_contain_text("expected CSV in UTF-8")
    stray = ("\n".join(lines[:2]) + '\n5000,"40,9000\n' + "5000,40,9000\n" * 500_000).encode()
    page.locator("#file").set_input_files({**content, "buffer": stray})  # type: ignore[arg-type]
    expect(page.locator(".many .problem")).to_contain_text("is a quote never closed?")


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
    expect(page.locator(".many .problem")).to_contain_text("scored so far are counted and logged")
    held[2].continue_()
    page.unroute(scoring)
    page.unroute("**/page/many/check*")


def test_operations_tick_only_while_they_are_open(browser: Browser, served: Served) -> None:
    with visit(browser, "about:blank") as blank:
        page = blank.page
        page.clock.install()
        ticks: list[str] = []
        page.on("request", lambda request: ticks.append(request.url) if "gradio_api" in request.url else None)
        page.goto(served.url)
        page.locator("#form .decide").wait_for()
        page.clock.run_for(20_000)
        assert ticks == []
        page.locator("#tab-operations").click()
        expect(page.locator("#operations")).to_contain_text("requests a second")
        for _ in range(2):
            with page.expect_request("**/gradio_api/run/**"):
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
    expect(page.get_by_role("heading", name="Credit default risk")).to_be_visible()


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
        expect(page.locator("#verdict h2")).to_have_text(re.compile("Acceptée|Refusée"))
        assert (
            json.loads(page.locator("[data-block=request]").text_content() or "")["AMT_CREDIT"] == 600_000.5
        )
        for name, words in TABS.items():
            assert page.locator(f"#tab-{name}").inner_text() == words.fr
        opened.open("why")
        expect(page.locator("#why")).to_contain_text("Risque de défaut de ce cas")
        opened.open("what-if")
        expect(page.locator("#right h2")).to_have_text(re.compile("Acceptée|Refusée"))
        opened.open("operations")
        expect(page.locator("#operations")).to_contain_text("requêtes par seconde")
        opened.open("model")
        expect(page.locator(".model")).to_contain_text("lignes comparées au modèle entraîné, 0 bit différent")
        opened.open("decide")
        amount.fill("")
        page.get_by_role("button", name="Décider", exact=True).click()
        expect(page.locator("#verdict")).to_contain_text("1 champ à corriger")
        expect(page.locator("#verdict")).to_contain_text("attendu : un nombre entre 0 et")
        amount.fill("1 512,25")
        page.get_by_role("button", name="EN", exact=True).click()
        assert opened.field("Amount of the credit").input_value() == "1,512.25"
        expect(page.locator("#verdict")).to_contain_text("1 field is not acceptable")
        assert page.evaluate("document.documentElement.lang") == "en"
        assert opened.console == []


def test_every_tab_fits_a_narrow_screen(browser: Browser, served: Served) -> None:
    with visit(browser, served.url, viewport={"width": 360, "height": 740}, locale="fr-FR") as opened:
        decide(opened, "borderline")
        for name in TABS:
            opened.open(name)
            opened.page.locator(
                f"#panel-{name} :is(.panel, .for-applicant, .drop, .tiles, .seal)"
            ).first.wait_for()
            assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360, name


def test_a_cut_network_is_said_and_no_old_verdict_stands_for_a_new_form(
    browser: Browser, served: Served
) -> None:
    with visit(browser, served.url, viewport=DESKTOP) as opened:
        page = opened.page
        decide(opened, "safe")
        opened.heading("Accepted")
        page.context.set_offline(True)
        expect(page.locator("#cut")).to_be_visible()
        page.locator(".example[data-name=risky]").click()
        expect(page.locator("#verdict.stale")).to_be_visible()
        opened.open("what-if")
        opened.open("many")
        page.locator("#file").set_input_files(file_of(3))  # type: ignore[arg-type]
        opened.open("decide")
        expect(page.locator("#cut")).to_be_visible()
        page.context.set_offline(False)
        expect(page.locator("#cut")).to_be_hidden()
        opened.decide()
        opened.heading("Refused")
        assert opened.field("Age").input_value() == str(EXAMPLES["risky"]["AGE_YEARS"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_tab(browser: Browser, served: Served, scheme: str) -> None:
    """And screenshots for people to look at: `tests/output/tab-*.png`."""
    OUTPUT.mkdir(exist_ok=True)
    with visit(
        browser, served.url, viewport=DESKTOP, locale="en-GB", color_scheme=scheme, reduced_motion="reduce"
    ) as opened:
        page = opened.page
        for name, heading in (("safe", "Accepted"), ("borderline", "Accepted"), ("risky", "Refused")):
            decide(opened, name)
            opened.heading(heading)
        page.get_by_text("Share: JSON and curl").click()
        seen(opened, "decide", scheme)
        opened.open("why")
        page.locator("#why .waterfall").wait_for()
        seen(opened, "why", scheme)
        opened.open("what-if")
        page.locator("#flip .try").first.wait_for()
        slide(page, "EXT_SOURCE_3", 0.6)
        page.locator("#what-if-why .waterfall").wait_for()
        seen(opened, "what-if", scheme)
        opened.open("many")
        page.locator("#file").set_input_files(file_of(200))  # type: ignore[arg-type]
        page.get_by_role("button", name="Score all rows").click()
        page.locator(".summary .figures strong").first.wait_for()
        seen(opened, "many", scheme)
        opened.open("operations")
        page.locator("#operations .tiles").wait_for()
        seen(opened, "operations", scheme)
        opened.open("model")
        seen(opened, "model", scheme)
        assert opened.console == []
        assert opened.hosts == {served.url.removeprefix("http://")}


def seen(opened: Visit, tab: str, scheme: str) -> None:
    opened.page.screenshot(path=OUTPUT / f"tab-{tab}-{scheme}.png")
    assert_accessible(opened, f"{tab}, {scheme}")


def test_wide_form_shows_what_matters_and_finds_the_rest(
    browser: Browser, wide: Path, tmp_path: Path
) -> None:
    with page_served(wide, tmp_path) as served, visit(browser, served.url, viewport=DESKTOP) as opened:
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
        opened.open("what-if")
        expect(page.locator(".slider")).to_have_count(30)
        assert opened.console == []


def test_login_is_asked_for_and_enough_for_every_call(browser: Browser, three: Path, tmp_path: Path) -> None:
    with page_served(three, tmp_path, HOTROW_UI_AUTH="ann:secret") as served:
        context = browser.new_context()
        assert context.request.get(served.url).status == 401
        context.close()
        login = {"username": "ann", "password": "secret"}
        with visit(browser, served.url, http_credentials=login) as opened:
            opened.page.locator(".example").first.click()
            opened.page.locator("#verdict .origin").wait_for()
            opened.open("why")
            opened.page.locator("#why .waterfall").wait_for()
            opened.open("operations")
            opened.page.locator("#operations .tiles").wait_for()
