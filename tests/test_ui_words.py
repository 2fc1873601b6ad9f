import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.bundle import Bundle, Decision
from server.schema import Feature, Schema
from tests.browser import LOAN
from tests.bundles import THREE_FEATURES, wide_schema
from ui.announce import curl, reachable
from ui.examples import Example
from ui.form import form_html, grouped
from ui.gauge import gauge, place, ticks
from ui.labels import help_of, hint_of, label_of, summary
from ui.panel import Complaint, refused
from ui.verdict import verdict_of
from ui.wording import Wording, percent, percents

ACCEPTED = {"id": "a-1", "probability": 0.041, "decision": "accept", "model": "loan@7"}


def bundle_of(task: str = "binary", classes: tuple[str, ...] = (), **manifest: Any) -> Bundle:
    decision = Decision(0.091, "accept", "refuse", 10, 1)
    return Bundle(
        directory=Path("none"),
        name="loan",
        version="7",
        task=task,
        schema=LOAN,
        decision=decision,
        link={"name": "logistic"},
        exact=True,
        bound=0.0,
        classes=classes,
        manifest=manifest,
    )


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html).replace("\N{NO-BREAK SPACE}", " "))


@pytest.mark.parametrize(
    ("feature", "hint"),
    [
        (Feature("age", minimum=18, maximum=120, unit="years"), "18 to 120 years"),
        (Feature("sum", minimum=0, maximum=1e8, unit="EUR"), "0 to 100\N{NO-BREAK SPACE}million EUR"),
        (Feature("score", minimum=0, maximum=1, unit="score from 0 to 1"), "score from 0 to 1"),
        (Feature("count", minimum=1), "at least 1"),
        (Feature("share", maximum=0.5), "at most 0.5"),
        (Feature("free"), ""),
    ],
)
def test_hint_says_range_and_unit(feature: Feature, hint: str) -> None:
    assert hint_of(feature) == hint


def test_label_falls_back_to_the_name() -> None:
    assert label_of(Feature("late_payments")) == "Late payments"


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        (Feature("a", help="From the offer.", default=12_000), "From the offer. Typical: 12,000."),
        (Feature("a", "flag", default=1), "Typical: Yes."),
        (Feature("a", "category", categories=("x",), category_labels=("Ex",), default="x"), "Typical: Ex."),
    ],
)
def test_help_ends_with_a_typical_value(feature: Feature, words: str) -> None:
    assert help_of(feature) == words


def test_groups_with_required_fields_come_first_and_required_fields_in_them() -> None:
    features = [Feature("a", group="x"), Feature("b", group="y"), Feature("c", group="y", nullable=False)]
    assert [(name, [f.name for f in members]) for name, members in grouped(features)] == [
        ("y", ["c", "b"]),
        ("x", ["a"]),
    ]


def test_summary_tells_required_values_first() -> None:
    row = {"guarantor": False, "school": "higher", "amount": 5000.128, "months": 12}
    assert summary(LOAN, row).startswith("Amount asked for 5,000.13, Time to repay 12, ")


def test_example_is_headed_by_name_and_title() -> None:
    assert Example("safe", "Far below the limit", {}).heading == "Safe · Far below the limit"
    assert Example("safe", "A safe applicant", {}).heading == "A safe applicant"


def test_form_escapes_what_the_bundle_says() -> None:
    hostile = '"><script>alert(1)</script>'
    schema = Schema(
        [
            Feature(hostile, label=hostile, help=hostile, unit=hostile, group=hostile),
            Feature("c", "category", categories=(hostile,), default=hostile),
        ]
    )
    html = form_html(schema, [Example(hostile, hostile, {hostile: 1})], hostile)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 6


def test_unknown_is_a_choice_of_optional_fields_only() -> None:
    optional = form_html(THREE_FEATURES, [], "case")
    assert optional.count("Set to unknown") == 0  # its only number is required
    assert '<option value="">Unknown</option>' in optional
    assert "<span>Unknown</span>" in optional
    required = [replace(feature, nullable=False) for feature in THREE_FEATURES.features]
    assert "Unknown" not in form_html(Schema(required), [], "case")


def test_form_of_600_features_has_600_fields() -> None:
    html = form_html(wide_schema(600), [], "case")
    assert html.count('class="field"') == 600
    assert len(html) < 600_000


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.041, "4.1 %"), (0.0, "0.0 %"), (1.0, "100.0 %"), (1e-9, "under 0.1 %"), (0.9999, "over 99.9 %")],
)
def test_percent_never_claims_a_certainty(probability: float, words: str) -> None:
    assert percent(probability).replace("\N{NO-BREAK SPACE}", " ") == words


def test_percents_have_the_decimals_that_tell_them_apart() -> None:
    assert percents(0.09151, 0.09154) == ("9.151\N{NO-BREAK SPACE}%", "9.154\N{NO-BREAK SPACE}%")
    assert percents(0.3, 0.3) == ("30.0\N{NO-BREAK SPACE}%", "30.0\N{NO-BREAK SPACE}%")


def test_gauge_puts_the_limit_on_top_and_is_linear_for_a_half() -> None:
    assert place(0.091, 0.091) == 0.5
    assert [place(p, 0.091) for p in (0.0, 1.0)] == [0.0, 1.0]
    assert [place(p, 0.5) for p in (0.1, 0.75)] == pytest.approx([0.1, 0.75])
    assert [place(p, t) for p, t in ((0.2, 0.0), (0.2, 1.0))] == [0.2, 0.2]


@pytest.mark.parametrize("threshold", [0.001, 0.05, 0.091, 0.5, 0.9, 0.999])
def test_ticks_are_apart_from_each_other_and_from_the_limit(threshold: float) -> None:
    places = sorted([0.5, *(place(share, threshold) for share in ticks(threshold))])
    assert all(b - a >= 0.09 for a, b in itertools.pairwise(places))


def test_gauge_says_in_words_what_it_shows() -> None:
    drawn = gauge(0.041, 0.091, risk="4.1 %", limit="9.1 %", name="risk of <x>", ends=("Yes", "No"))
    assert 'role="img" aria-label="risk of &lt;x&gt; 4.1 %, limit 9.1 %"' in drawn


def test_verdict_says_decision_risk_limit_and_time() -> None:
    words = {
        "probability": "risk of default",
        "missed": "a missed default",
        "false_alarm": "a good client lost",
    }
    verdict = verdict_of(bundle_of(wording=words))
    said = text_of(verdict.answered(ACCEPTED, 0.000053))
    assert "Accepted The risk of default is 4.1 %, below the limit of 9.1 %." in said
    assert "The limit weighs a missed default 10 times as heavily as a good client lost." in said
    assert "Scored in 0.05 ms by loan@7 answer a-1" in said


def test_refusal_at_the_limit_is_worded_so() -> None:
    said = verdict_of(bundle_of()).answered(ACCEPTED | {"probability": 0.091, "decision": "refuse"}, 1e-5)
    assert "Refused The probability is 9.1 %, at the limit of 9.1 %." in text_of(said)


def test_wording_a_bundle_does_not_give_is_general_or_absent() -> None:
    words = Wording.of(bundle_of())
    assert (words.title, words.probability, words.below) == ("Loan", "probability", "Accepted")
    assert "weighs" not in verdict_of(bundle_of()).idle()


def test_a_value_is_shown_as_it_is() -> None:
    document = {"id": "a-1", "prediction": 1234.56789, "model": "loan@7"}
    assert "1,234.57 The value the model predicts." in text_of(
        verdict_of(bundle_of("regression")).answered(document, 1e-5)
    )


def test_the_likeliest_class_comes_first() -> None:
    document = {"id": "a-1", "probabilities": [0.2, 0.7, 0.1], "prediction": "b", "model": "loan@7"}
    verdict = verdict_of(bundle_of("multiclass", ("a", "b", "<c>")))
    said = text_of(verdict.answered(document, 1e-5))
    assert "b The likeliest of 3 classes. b 70.0 % a 20.0 % &lt;c&gt; 10.0 %" in said
    assert "No answer yet" in verdict.idle()


def test_refused_names_each_field_by_its_label() -> None:
    said = refused("1 field is not acceptable", [Complaint("age", "Age <x>", "expected a number")])
    assert "Not decided 1 field is not acceptable. Age &lt;x&gt; : expected a number" in text_of(said)


def test_curl_line_survives_the_shell() -> None:
    assert curl("http://h:1", {"it's": "a & b"}).endswith("""-d '{"it'"'"'s": "a & b"}'""")


@pytest.mark.parametrize(
    ("bound", "open_at"),
    [
        ("http://0.0.0.0:7860", "http://127.0.0.1:7860"),
        ("http://[::]:7860", "http://[::1]:7860"),
        ("http://10.0.0.5:7860", "http://10.0.0.5:7860"),
    ],
)
def test_announced_address_can_be_opened(bound: str, open_at: str) -> None:
    assert reachable(bound) == open_at
