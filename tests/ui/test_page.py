"""The page in a real browser. The browser lives as long as this module: its event loop is the thread's."""

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.support.accessibility import spoken_tree
from tests.support.browser import (
    LOAN,
    RISKY,
    SAFE,
    Served,
    Visit,
    assert_accessible_light_and_dark,
    chromium,
    loan_bundle,
    page_served,
    visit,
    visit_again,
)
from tests.support.bundles import sample_rows
from tests.ui.test_values import WRITTEN
from ui.words.values import format_number, texts_of
from ui.words.wording import percents

pytestmark = pytest.mark.whole

THRESHOLD = 0.3


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("page")
    loan_bundle(folder / "loan")
    with page_served(folder / "loan", folder) as page:
        yield page


@pytest.fixture(scope="module")
def loaded(browser: Browser, served: Served) -> Iterator[Visit]:
    with visit(browser, served.url) as opened:
        yield opened


@pytest.fixture
def open_page(loaded: Visit) -> Visit:
    """The page with an empty form; its console and its hosts are of all tests so far."""
    loaded.clear()
    return loaded


def post(served: Served, row: dict[str, Any]) -> dict[str, Any]:
    """The document `POST /predict` answers this row with, refusals too."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{served.url}/predict", json.dumps(row).encode(), headers)
    try:
        with urllib.request.urlopen(request) as answer:
            document: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as refusal:
        document = json.load(refusal)
    return document


def fill(opened: Visit, row: dict[str, Any]) -> None:
    """Type a row into the form, as a person reads it."""
    for name, text in texts_of(LOAN, row).items():
        feature = LOAN[name]
        if feature.kind == "flag":
            opened.page.get_by_role("radio", name="Yes" if row[name] else "No", exact=True).check()
        elif feature.kind == "category":
            opened.field(feature.label).select_option(text)
        else:
            opened.field(feature.label).fill(text)


def said(document: dict[str, Any]) -> str:
    """The sentence that tells an answer of the server."""
    pair = percents(document["probability"], THRESHOLD)
    risk, limit = (words.en.replace("\N{NO-BREAK SPACE}", " ") for words in pair)
    relation = "below" if document["decision"] == "accept" else "above"
    return f"The risk of default is {risk}, {relation} the limit of {limit}."


def test_terminal_gives_the_address_and_a_curl_line_that_works(served: Served) -> None:
    lines = served.terminal.read_text().splitlines()
    assert f"The page:  {served.url}" in lines
    (curl,) = (line.removeprefix("The API:   ") for line in lines if line.startswith("The API:"))
    pasted = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(pasted.stdout)["decision"] == "accept"


def test_filled_form_shows_what_the_api_answers(open_page: Visit, served: Served) -> None:
    for row in (SAFE, RISKY, *sample_rows(LOAN, 4, seed=9)):
        open_page.clear()
        fill(open_page, row)
        open_page.decide()
        document = post(served, row)
        open_page.heading("Accepted" if document["decision"] == "accept" else "Refused")
        open_page.page.get_by_text(said(document).replace(" %", "\N{NO-BREAK SPACE}%")).wait_for()
        assert re.search(r"Scored in \d+\.\d\d ms", open_page.verdict)


@pytest.mark.parametrize(
    ("title", "heading"), [("A safe", "Accepted"), ("A borderline", "Accepted"), ("A risky", "Refused")]
)
def test_examples_come_out_as_they_are_named(open_page: Visit, title: str, heading: str) -> None:
    open_page.example(title)
    open_page.heading(heading)
    assert open_page.field("Amount asked for").input_value() != ""


def test_example_fills_the_form_readably(open_page: Visit) -> None:
    open_page.example("A risky")
    open_page.heading("Refused")
    assert open_page.field("Amount asked for").input_value() == "9,600,000.5"
    assert open_page.field("Time to repay").input_value() == ""
    assert open_page.page.get_by_role("radio", name="No", exact=True).is_checked()


def test_unknown_is_not_zero(open_page: Visit) -> None:
    open_page.example("A safe")
    open_page.heading("Accepted")
    with_zero = open_page.verdict
    open_page.page.get_by_role("button", name="Set to unknown: Largest delay").click()
    assert open_page.field("Largest delay").get_attribute("placeholder") == "Unknown"
    open_page.decide()
    open_page.heading("Refused")
    assert open_page.verdict != with_zero


def test_bad_values_are_refused_beside_their_fields_in_a_persons_words(open_page: Visit) -> None:
    open_page.field("Time to repay").fill("soon")
    open_page.field("Largest delay").fill("2,000")
    open_page.decide()
    open_page.heading("Not decided")
    said = {
        "Amount asked for": "is needed, like 12,000",
        "Time to repay": "must be a whole number",
        "Largest delay": "must be from 0 to 1,000",
    }
    for label, detail in said.items():
        field = open_page.field(label)
        named = open_page.page.get_by_label(label, exact=True)
        beside = open_page.page.locator("#form .field", has=named).locator(".error")
        assert beside.inner_text().casefold() == detail
        assert field.get_attribute("aria-invalid") == "true"
        assert f"{label} {detail}" in open_page.verdict
    expect(open_page.page.locator("#spoken")).to_have_text("Not decided. 3 fields to correct")
    # The first of them has the focus, and the list leads to the others.
    assert open_page.field("Amount asked for").evaluate("node => node === document.activeElement")
    open_page.page.get_by_role("link", name="Largest delay").click()
    assert open_page.field("Largest delay").evaluate("node => node === document.activeElement")


def test_a_mended_field_loses_its_error(open_page: Visit) -> None:
    open_page.decide()
    open_page.heading("Not decided")
    amount = open_page.field("Amount asked for")
    amount.fill("5000")
    assert amount.get_attribute("aria-invalid") is None
    open_page.decide()
    open_page.page.locator("#verdict h2", has_text="Refused").or_(
        open_page.page.locator("#verdict h2", has_text="Accepted")
    ).wait_for()
    assert open_page.page.locator(".error:visible").count() == 0


def test_page_and_server_read_numbers_alike(open_page: Visit) -> None:
    """A field that is left shows its number regrouped where the server reads one, else as typed."""
    amount = open_page.field("Amount asked for")
    for text, number in WRITTEN:
        if len(text) > 40:  # longer than the page lets anyone type
            continue
        amount.fill(text)
        amount.blur()
        shown = amount.input_value()
        if number is None or "e" in text:
            assert shown == text
        elif abs(number) < 2**53:
            assert shown.lstrip("0") in {format_number(number), format_number(number).lstrip("0"), text}


def test_units_and_percentages_are_read_as_people_write_them(open_page: Visit) -> None:
    amount = open_page.field("Amount asked for")
    for text, shown in (
        ("200k", "200,000"),
        ("1.5 M", "1,500,000"),
        ("1,250.5 EUR", "1,250.5"),
        ("€ 200000", "200,000"),
        ("200 000 €", "200,000"),
        ("$12k", "12,000"),
        ("0.004k", "4"),
        ("12 %", "12 %"),  # of an amount it says nothing
        ("200k months", "200k months"),
    ):
        amount.fill(text)
        amount.blur()
        assert amount.input_value() == shown, text


def test_what_was_typed_comes_back_after_clear_and_after_an_example(open_page: Visit) -> None:
    page = open_page.page
    fill(open_page, SAFE)
    undo = page.get_by_role("button", name="Undo")
    for lose in (open_page.clear, lambda: open_page.example("A risky")):
        lose()
        undo.click()
        assert open_page.field("Amount asked for").input_value() == "5,000"
        assert page.get_by_role("radio", name="Yes", exact=True).is_checked()
        expect(undo).to_be_hidden()


def test_enter_in_a_list_decides_too(open_page: Visit) -> None:
    fill(open_page, SAFE)
    open_page.field(LOAN["school"].label).press("Enter")
    open_page.heading("Accepted")


def test_of_quick_submissions_the_last_is_shown(open_page: Visit) -> None:
    for title in ("A risky", "A safe") * 3:
        open_page.example(title)
    open_page.heading("Accepted")
    open_page.page.locator("#verdict:not(.stale)").wait_for()
    assert open_page.field("Amount asked for").input_value() == "5,000"


def test_an_answer_that_comes_after_a_change_is_marked(open_page: Visit) -> None:
    open_page.page.route("**/page/decide", lambda route: late(route, open_page))
    open_page.example("A safe")
    open_page.heading("Accepted")
    open_page.page.locator("#verdict.stale").wait_for()
    open_page.page.unroute("**/page/decide")


def late(route: Route, opened: Visit) -> None:
    """Let a request go only after the form has changed."""
    opened.field("Time to repay").fill("99")
    route.continue_()


def test_verdict_says_when_the_form_has_changed_since(open_page: Visit) -> None:
    open_page.example("A safe")
    open_page.heading("Accepted")
    assert open_page.page.locator("#verdict.stale").count() == 0
    open_page.field("Time to repay").fill("36")
    open_page.page.locator("#verdict.stale").wait_for()
    open_page.decide()
    open_page.page.locator("#verdict:not(.stale)").wait_for()


def test_clear_empties_form_and_verdict(open_page: Visit) -> None:
    open_page.example("A safe")
    open_page.heading("Accepted")
    open_page.clear()
    open_page.heading("No decision yet")
    assert open_page.field("Amount asked for").input_value() == ""
    assert open_page.page.get_by_role("radio", name="Unknown", exact=True).is_checked()


def test_keyboard_alone_decides(open_page: Visit) -> None:
    open_page.field("Amount asked for").focus()
    press = open_page.page.keyboard.press
    open_page.page.keyboard.type("5000")
    press("Tab")
    open_page.page.keyboard.type("24")
    press("Tab")
    open_page.page.keyboard.type("0")
    press("Enter")
    open_page.heading("Accepted")
    assert open_page.field("Amount asked for").input_value() == "5,000"


def test_help_of_the_field_in_hand_is_shown(open_page: Visit) -> None:
    open_page.field("Amount asked for").focus()
    assert open_page.page.locator(".guide").inner_text() == "From the application. Typical: 12,000."


def test_labels_of_a_bundle_are_text_only(open_page: Visit) -> None:
    label = "Education <b>${1}</b>"
    assert open_page.field(label).locator("option").all_inner_texts()[-1] == 'University "or" {{more}}'


def test_nothing_goes_elsewhere_and_nothing_stays(open_page: Visit, served: Served) -> None:
    open_page.example("A safe")
    open_page.heading("Accepted")
    open_page.field("Time to repay").fill("x")
    open_page.decide()
    open_page.heading("Not decided")
    kept = """async () => [{...localStorage}, {...sessionStorage}, document.cookie,
              (await indexedDB.databases()).map(base => base.name), await caches.keys()]"""
    assert open_page.page.evaluate(kept) == [{}, {}, "", [], []]
    assert open_page.console == []
    assert open_page.hosts == {served.url.removeprefix("http://")}


def test_what_a_screen_reader_has_to_say_in_each_state(open_page: Visit) -> None:
    page = open_page.page
    said = page.locator("#spoken")
    assert "status" in (said.get_attribute("role") or "")
    tree = spoken_tree(page)
    assert 'tab "Decide" selected=True' in tree
    assert 'heading "No decision yet"' in tree
    (amount,) = (line for line in tree if line.startswith('textbox "Amount asked for"'))
    assert "required=True" in amount
    assert "From the application." in amount
    open_page.example("A risky")
    open_page.heading("Refused")
    expect(said).to_have_text(re.compile(r"^Refused\. The risk of default is .* above the limit of 30\.0.%$"))
    tree = spoken_tree(page)
    assert 'heading "Refused"' in tree
    assert any(line.startswith('image "risk of default') for line in tree)
    assert 'radio "No" checked=true' in tree
    open_page.field("Amount asked for").fill("much")
    expect(said).to_have_text("The form has changed since: decide again.")
    open_page.decide()
    open_page.heading("Not decided")
    expect(said).to_have_text("Not decided. 1 field to correct")
    (amount,) = (line for line in spoken_tree(page) if line.startswith('textbox "Amount asked for"'))
    assert "invalid=true" in amount
    assert "Must be a number, like 12,000" in amount
    # The status is the one element that was there from the start.
    assert said.evaluate("node => node.isConnected && node.childElementCount === 0")


def test_axe_finds_nothing_light_and_dark(open_page: Visit) -> None:
    assert_accessible_light_and_dark(open_page, "idle")
    open_page.example("A safe")
    open_page.heading("Accepted")
    assert_accessible_light_and_dark(open_page, "accepted")
    open_page.example("A risky")
    open_page.heading("Refused")
    assert_accessible_light_and_dark(open_page, "refused")
    open_page.field("Amount asked for").fill("much")
    assert_accessible_light_and_dark(open_page, "changed since")
    open_page.decide()
    open_page.heading("Not decided")
    assert_accessible_light_and_dark(open_page, "not decided")


def test_screens_of_all_sizes_show_form_and_verdict(open_page: Visit) -> None:
    page = open_page.page
    page.set_viewport_size({"width": 360, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#tab-model").bounding_box()["x"] < 360  # type: ignore[index]
    first = open_page.field("Amount asked for").bounding_box()
    assert first is not None
    assert first["y"] < 900  # no empty gauge before the form
    fill(open_page, SAFE)
    open_page.decide()
    open_page.heading("Accepted")
    page.wait_for_function("document.querySelector('#verdict h2').getBoundingClientRect().top >= 0")
    page.set_viewport_size({"width": 1280, "height": 720})
    page.evaluate("scrollTo(0, 0)")
    open_page.clear()
    fill(open_page, SAFE)
    open_page.decide()
    open_page.heading("Accepted")
    for part in ("h2", ".gauge", ".origin"):
        box = page.locator(f"#verdict {part}").bounding_box()
        assert box is not None
        assert 0 <= box["y"] <= box["y"] + box["height"] <= 720, part


def test_forced_colours_and_print_tell_what_grounds_alone_would(open_page: Visit) -> None:
    page = open_page.page
    open_page.example("A risky")
    open_page.heading("Refused")

    def ground(selector: str) -> str:
        return str(page.locator(selector).first.evaluate("node => getComputedStyle(node).backgroundColor"))

    page.emulate_media(forced_colors="active")
    chosen, others = "#form .choices input:checked + span", "#form .choices input:not(:checked) + span"
    assert ground(chosen) != ground(others)
    assert ground('[role="tab"][aria-selected="true"]') != ground('[role="tab"][aria-selected="false"]')
    border = "node => getComputedStyle(node).borderTopStyle + getComputedStyle(node).borderTopWidth"
    assert page.locator("#form .decide").evaluate(border) == "solid2px"
    page.emulate_media(forced_colors="none", media="print", color_scheme="dark")
    assert page.locator("#header .tabs").is_hidden()
    assert page.locator("#form .bar").is_hidden()
    assert ground("#verdict .panel") == "rgb(255, 255, 255)"
    assert page.locator("#verdict h2").evaluate("node => getComputedStyle(node).color") == "rgb(0, 0, 0)"
    page.emulate_media(media="screen", color_scheme="light")


def test_what_is_kept_on_a_reload_is_what_was_asked_for(loaded: Visit, served: Served) -> None:
    with visit_again(loaded.page.context, f"{served.url}/?language=fr") as opened:
        page = opened.page
        assert page.evaluate("document.documentElement.lang") == "fr"
        page.locator("#case-number").fill("C-17")
        opened.field("Amount asked for").fill("5000")
        page.get_by_text("Garder ma saisie").click()
        page.reload()
        page.locator("#form .decide").wait_for(state="attached")
        expect(opened.field("Amount asked for")).to_have_value(re.compile("5.000"))
        expect(page.locator("#case-number")).to_have_value("C-17")
        assert page.evaluate("document.documentElement.lang") == "fr"
        page.get_by_text("Garder ma saisie").click()
        assert page.evaluate("sessionStorage.length") == 0
