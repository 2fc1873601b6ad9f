import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from server.errors import FieldError
from server.model import policy
from server.model.bundle import Bundle, Decision
from server.model.judge import Judge
from server.model.schema import Feature, Schema
from tests.support.browser import LOAN
from tests.support.bundles import CREDIT, THREE_FEATURES, wide_schema
from ui.announce import reachable
from ui.cases.examples import Example
from ui.drawing.gauge import gauge, middle, place, ticks
from ui.drawing.histogram import bars_html, histogram
from ui.drawing.panel import refused
from ui.drawing.verdict import verdict_of
from ui.tabs.form import WIDE, form_html, grouped
from ui.words.bands import bands_of, limits_in_words
from ui.words.labels import Complaint, Labels, expected
from ui.words.share import curl, shared
from ui.words.text import Text, attribute, tag
from ui.words.wording import Wording, percent, percents

CASE = Text("case", "cas")
#: What a case says: 3 of the 5 inputs.
GIVEN = {"amount": "1", "months": "24", "delay": "0", "school": ""}
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
        precision="float64",
        exact=True,
        row_by_row=False,
        bound=0.0,
        classes=classes,
        manifest={"files": {}, **manifest},
    )


def test_of_thousands_of_categories_some_are_named() -> None:
    words = expected(Feature("city", kind="category", categories=tuple(f"city {i}" for i in range(20_000))))
    assert words.en.endswith('"city 49" and 19950 more or null')
    assert words.fr.endswith("city 49\u00a0» et 19950 autres ou rien")


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
        (Feature("read off", minimum=-3.5205991096461506, maximum=3.676399276629202), "-3.521 to 3.676"),
    ],
)
def test_hint_says_range_and_unit(feature: Feature, hint: str) -> None:
    assert Labels().hint(feature).en == hint


def test_label_falls_back_to_the_name() -> None:
    assert Labels().label(Feature("late_payments")) == ("Late payments", "Late payments")


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        (Feature("a", help="From the offer.", default=12_000), "From the offer. Typical: 12,000."),
        (Feature("a", "flag", default=1), "Typical: Yes."),
        (Feature("a", "category", categories=("x",), category_labels=("Ex",), default="x"), "Typical: Ex."),
    ],
)
def test_help_ends_with_a_typical_value(feature: Feature, words: str) -> None:
    assert Labels().help(feature).en == words


def test_groups_with_required_fields_come_first_and_required_fields_in_them() -> None:
    features = [Feature("a", group="x"), Feature("b", group="y"), Feature("c", group="y", nullable=False)]
    assert [(name, [f.name for f in members]) for name, members in grouped(features)] == [
        ("y", ["c", "b"]),
        ("x", ["a"]),
    ]


def test_summary_tells_required_values_first() -> None:
    row = {"guarantor": False, "school": "higher", "amount": 5000.128, "months": 12}
    assert Labels().summary(LOAN, row).en.startswith("Amount asked for 5,000.13, Time to repay 12, ")


def test_example_is_headed_by_name_and_title() -> None:
    assert Example("safe", "Far below the limit", {}).heading.en == "Safe · Far below the limit"
    assert Example("safe", "A safe applicant", {}).heading.en == "A safe applicant"
    assert Example("safe", "A safe applicant", {}, "Un cas sûr").heading.fr == "Un cas sûr"


def test_form_escapes_what_the_bundle_says() -> None:
    hostile = '"><script>alert(1)</script>'
    schema = Schema(
        [
            Feature(hostile, label=hostile, help=hostile, unit=hostile, group=hostile),
            Feature("c", "category", categories=(hostile,), default=hostile),
        ]
    )
    html = form_html(schema, [Example(hostile, hostile, {hostile: 1}, hostile)], Text.same(hostile), Labels())
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 6


def test_unknown_is_a_choice_of_optional_fields_only() -> None:
    optional = form_html(THREE_FEATURES, [], CASE, Labels())
    assert optional.count("Set to unknown") == 0  # its only number is required
    assert '<option value="" data-fr="Inconnu">Unknown</option>' in optional
    assert '<span data-fr="Inconnu">Unknown</span>' in optional
    required = [replace(feature, nullable=False) for feature in THREE_FEATURES.features]
    assert "Unknown" not in form_html(Schema(required), [], CASE, Labels())


def test_form_of_600_features_has_600_fields() -> None:
    schema = wide_schema(600)
    html = form_html(schema, [], CASE, Labels(), list(reversed(schema.names)))
    assert html.count('<div class="field') == 600
    assert html.count('<div class="field minor"') == 600 - WIDE
    assert html.index('data-feature="x599"') < html.index('data-feature="x0"')
    assert len(html) < 800_000


def test_required_fields_of_a_wide_form_are_always_shown() -> None:
    schema = Schema([*wide_schema(100).features, Feature("last", nullable=False)])
    html = form_html(schema, [], CASE, Labels(), list(schema.names))
    assert '<div class="field" data-feature="last"' in html


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.041, "4.1 %"), (0.0, "0.0 %"), (1.0, "100.0 %"), (1e-9, "under 0.1 %"), (0.9999, "over 99.9 %")],
)
def test_percent_never_claims_a_certainty(probability: float, words: str) -> None:
    assert percent(probability).en.replace("\N{NO-BREAK SPACE}", " ") == words


def test_percents_have_the_decimals_that_tell_them_apart() -> None:
    assert tuple(text.en for text in percents(0.09151, 0.09154)) == (
        "9.151\N{NO-BREAK SPACE}%",
        "9.154\N{NO-BREAK SPACE}%",
    )
    assert tuple(text.en for text in percents(0.3, 0.3)) == (
        "30.0\N{NO-BREAK SPACE}%",
        "30.0\N{NO-BREAK SPACE}%",
    )


def test_gauge_puts_the_limit_on_top_and_is_linear_for_a_half() -> None:
    assert place(0.091, 0.091) == 0.5
    assert [place(p, 0.091) for p in (0.0, 1.0)] == [0.0, 1.0]
    assert [place(p, 0.5) for p in (0.1, 0.75)] == pytest.approx([0.1, 0.75])
    assert [place(p, t) for p, t in ((0.2, 0.0), (0.2, 1.0))] == [0.2, 0.2]


@pytest.mark.parametrize("threshold", [0.001, 0.05, 0.091, 0.5, 0.9, 0.999])
def test_ticks_are_apart_from_each_other_and_from_the_limit(threshold: float) -> None:
    places = sorted([0.5, *(place(share, threshold) for share in ticks([threshold]))])
    assert all(b - a >= 0.09 for a, b in itertools.pairwise(places))


def test_gauge_says_in_words_what_it_shows() -> None:
    drawn = gauge(0.041, bands_of(bundle_of()), name=Text.same("risk of <x>"))
    assert (
        'role="img" aria-label="risk of &lt;x&gt; 4.1\N{NO-BREAK SPACE}%, limit 9.1\N{NO-BREAK SPACE}%"'
        in drawn
    )
    assert (drawn.count('class="zone'), drawn.count('class="limit"'), "<ul" in drawn) == (2, 1, False)


def banded(*limits: float) -> Bundle:
    """A bundle that decides by the score alone, with a look between each two limits."""
    names = ["accept", "refer", *(f"look {i}" for i in range(2, len(limits))), "refuse"]
    bands = tuple(policy.Band(name, limit) for name, limit in zip(names, [*limits, None], strict=True))
    decision = Decision(limits[-1], "accept", "refuse", 10, 1)
    return replace(bundle_of(), decision=decision, policy=policy.Policy(bands=bands))


@pytest.mark.parametrize("limits", [(0.06, 0.12), (0.02, 0.5), (0.1, 0.101, 0.102), (0.001, 0.2, 0.4, 0.99)])
def test_every_limit_of_a_policy_is_drawn_with_the_words_of_its_bands(limits: tuple[float, ...]) -> None:
    bundle = banded(*limits)
    bands = bands_of(bundle)
    assert bundle.policy is not None
    judge = Judge(bundle.policy, LOAN.names, limits[-1], "accept", "refuse")
    verdict = verdict_of(bundle)
    places = [place(limit, middle(limits)) for limit in limits]
    assert places[0] + places[-1] == pytest.approx(1.0)  # both outermost limits are as far from the top
    row = LOAN.encode({"amount": 1})
    for probability in (0.0, *limits, *((a + b) / 2 for a, b in itertools.pairwise(limits)), 1.0):
        by_score = judge.by_score(judge.verdict(probability, row))
        drawn = verdict.supposed({"probability": probability, "decision": bundle.outcomes[by_score]}, {})
        zones = re.findall(r'class="zone ([a-z ]+)"', drawn)
        assert [i for i, style in enumerate(zones) if style.endswith(" here")] == [by_score]
        assert drawn.count('class="limit"') == len(limits)
        assert drawn.count("<li class=") == len(limits) + 1 == len(zones)
    named = re.findall(r"<li class=.*?</li>", drawn)
    figures = [words.en for words in limits_in_words(bands)]
    for entry, band, ends in zip(named, bands, itertools.pairwise(["", *figures, ""]), strict=True):
        assert band.words.en in entry
        assert all(end in entry for end in ends)
    drawn = bars_html([1.0] * 40, bands, [i / 40 for i in range(41)], [CASE] * 40)
    bars = histogram(bands, drawn, CASE, has_policy=False)
    assert bars.count("--limit:") == len(limits)
    cuts = {int(limit * 40) for limit in limits if limit * 40 % 1}
    assert bars.count("--ground:") == len(cuts)


def test_verdict_says_between_which_limits_a_probability_is() -> None:
    verdict = verdict_of(banded(0.06, 0.12))
    for probability, decision, said in (
        (0.05, "accept", "Accepted The probability is 5.0 %, below the limit of 6.0 %."),
        (0.06, "refer", "For a person The probability is 6.0 %, at the limit of 6.0 %."),
        (0.07, "refer", "For a person The probability is 7.0 %, between the limits of 6.0 % and 12.0 %."),
        (0.12, "refuse", "Refused The probability is 12.0 %, at the limit of 12.0 %."),
        (0.2, "refuse", "Refused The probability is 20.0 %, above the limit of 12.0 %."),
    ):
        document = ACCEPTED | {"probability": probability, "decision": decision}
        assert said in text_of(verdict.answered(document, 1e-5, GIVEN))


def test_verdict_says_decision_risk_limit_and_time() -> None:
    words = {
        "probability": "risk of default",
        "missed": "a missed default",
        "false_alarm": "a good client lost",
    }
    verdict = verdict_of(bundle_of(wording=words))
    said = text_of(verdict.answered(ACCEPTED, 0.000053, GIVEN))
    assert "Accepted The risk of default is 4.1 %, below the limit of 9.1 %." in said
    assert "Accepted 0.41 Refused 0.96 Counted: a missed default as 10, a good client lost as 1." in said
    assert "Scored in 0.05 ms by loan@7 answer a-1" in said


@pytest.mark.parametrize(
    ("probability", "said"),
    [
        (0.0001, "Of 3,750 training cases at least 90 % had a higher risk of default."),
        (0.9, "Of 3,750 training cases at least 90 % had a lower risk of default."),
        (
            0.05,
            r"Of 3,750 training cases at least \d0 % had a lower and at least \d0 % a higher risk",
        ),
    ],
)
def test_verdict_tells_how_the_training_cases_lie_about_it(probability: float, said: str) -> None:
    document = {**ACCEPTED, "probability": probability}
    shown = text_of(verdict_of(Bundle.load(CREDIT)).answered(document, 1e-5, GIVEN))
    assert re.search(said, shown.replace("\N{NO-BREAK SPACE}", " "))


def test_refusal_at_the_limit_is_worded_so() -> None:
    said = verdict_of(bundle_of()).answered(
        ACCEPTED | {"probability": 0.091, "decision": "refuse"}, 1e-5, GIVEN
    )
    assert "Refused The probability is 9.1 %, at the limit of 9.1 %." in text_of(said)


def test_wording_a_bundle_does_not_give_is_general_or_absent() -> None:
    words = Wording.of(bundle_of())
    assert (words.title.en, words.probability.en, words.below.en) == ("Loan", "probability", "Accepted")
    assert "Counted: a missed positive as 10, a false alarm as 1." in text_of(
        verdict_of(bundle_of()).answered(ACCEPTED, 1e-5, GIVEN)
    )


def test_a_value_is_shown_as_it_is() -> None:
    document = {"id": "a-1", "prediction": 1234.56789, "model": "loan@7"}
    assert "1,234.57 The value the model predicts." in text_of(
        verdict_of(bundle_of("regression")).answered(document, 1e-5, GIVEN)
    )


def test_the_likeliest_class_comes_first() -> None:
    document = {"id": "a-1", "probabilities": [0.2, 0.7, 0.1], "prediction": "b", "model": "loan@7"}
    verdict = verdict_of(bundle_of("multiclass", ("a", "b", "<c>")))
    said = text_of(verdict.answered(document, 1e-5, GIVEN))
    assert "b The likeliest of 3 classes. b 70.0 % a 20.0 % &lt;c&gt; 10.0 %" in said
    assert "No answer yet" in verdict.idle()


def test_refused_names_each_field_by_its_label() -> None:
    said = refused(
        "1 field is not acceptable", [Complaint("age", Text.same("Age <x>"), Text.same("is needed"))]
    )
    assert "Not decided 1 field to correct. Age &lt;x&gt; is needed" in text_of(said)
    assert "Expected JSON." in refused("expected JSON", [])


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


def test_a_text_carries_both_languages_and_escapes_them() -> None:
    assert tag("b", Text("a < b", "c > d")) == '<b data-fr="c &gt; d">a &lt; b</b>'
    assert tag("b", Text.same("x"), class_="y", data_z='"') == '<b class="y" data-z="&quot;">x</b>'
    assert attribute("title", Text("a", '"')) == 'title="a" data-fr-title="&quot;"'


def test_numbers_are_written_as_each_language_writes_them() -> None:
    assert Text.figures("1,234.5").fr == "1\N{NARROW NO-BREAK SPACE}234,5"
    assert percent(0.041).fr == "4,1\N{NO-BREAK SPACE}%"


COUNTED = Text("{n} {n:row|rows}", "{n} {n:ligne|lignes}")


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ("0", ("0 rows", "0 ligne")),
        ("1", ("1 row", "1 ligne")),
        ("1.5", ("1.5 rows", "1,5 ligne")),
        ("2", ("2 rows", "2 lignes")),
        ("10", ("10 rows", "10 lignes")),
        ("1,000", ("1,000 rows", "1\N{NARROW NO-BREAK SPACE}000 lignes")),
    ],
)
def test_a_number_has_the_word_that_goes_with_it(figure: str, said: tuple[str, str]) -> None:
    assert COUNTED.put(n=Text.figures(figure)) == said


FRENCH = {"amount": {"label": "Montant", "group": "Le prêt", "unit": "euros"}}


def test_features_speak_french_where_the_bundle_does_and_their_own_words_where_not() -> None:
    labels = Labels(FRENCH)
    assert labels.label(LOAN["amount"]) == ("Amount asked for", "Montant")
    assert labels.hint(LOAN["amount"]).fr == "0 à 10\N{NO-BREAK SPACE}millions d'euros"
    assert labels.label(LOAN["months"]) == ("Time to repay", "Time to repay")


@pytest.mark.parametrize(
    ("name", "value", "english", "french"),
    [
        ("amount", None, "is needed, like 12,000", "manque, par exemple 12\N{NARROW NO-BREAK SPACE}000"),
        ("amount", "much", "must be a number, like 12,000", "doit être un nombre, par exemple 12"),
        ("amount", -1, "must be from 0 to 10\N{NO-BREAK SPACE}million, like 12,000", "doit être de 0 à 10"),
        ("months", 12.5, "must be a whole number", "doit être un nombre entier"),
        ("months", 1e9, "must be from 6 to 120", "doit être de 6 à 120"),
        ("school", "x", 'must be one of "primary", "secondary", "higher"', "doit être l'une de «"),
        ("guarantor", "x", "must be yes or no", "doit être oui ou non"),
        ("guarantor", 7, "must be yes or no", "doit être oui ou non"),
    ],
)
def test_a_refusal_says_what_to_do(name: str, value: Any, english: str, french: str) -> None:
    words = Labels().refusal(LOAN[name], why_not(LOAN[name], value))
    assert words.en == english
    assert words.fr.startswith(french)


def test_every_refusal_of_the_schema_is_a_persons_in_both_languages() -> None:
    values: list[Any] = [None, "x", True, [], {}, 1.5, -1e9, 10**400, float("inf")]
    for feature in LOAN.features:
        details = [detail for value in values if (detail := why_not(feature, value))]
        assert details
        for detail in details:
            words = Labels().refusal(feature, detail)
            assert words.en.startswith(("must be ", "is needed")), words
            assert words.fr.startswith(("doit être ", "manque")), words


def why_not(feature: Feature, value: Any) -> str:
    try:
        feature.encode(value)
    except FieldError as error:
        return error.detail
    return ""


def test_words_that_are_not_the_schemas_are_left_as_they_are() -> None:
    assert Labels().refusal(LOAN["amount"], "expected something else").fr == "expected something else"


def test_what_is_shared_is_the_request_the_answer_and_the_call() -> None:
    html = shared({"a": "<b>"}, ACCEPTED)
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert "curl -sS <span data-origin></span>/predict" in html


def test_near_the_limit_the_costs_are_explained() -> None:
    near = {**ACCEPTED, "probability": 0.09095, "decision": "accept"}
    assert "So near the limit" in text_of(verdict_of(bundle_of()).answered(near, 1e-5, GIVEN))
    assert "So near the limit" not in text_of(verdict_of(bundle_of()).answered(ACCEPTED, 1e-5, GIVEN))


def test_decision_of_a_policy_is_said_with_its_reasons(three: Path) -> None:
    manifest = orjson.loads((three / "bundle.json").read_bytes())
    policy = {
        "needed": {"known_at_least": 2},
        "checks": [
            {"feature": "income", "at_least": 500, "text": {"en": "Is that a year's?", "fr": "Par an ?"}},
            {"feature": "owner", "at_most": 0, "then": "", "name": "owns"},
        ],
        "unusual": {"limits": {"income": [100, 9000]}},
    }
    bundle = Bundle.from_manifest(three, manifest | {"policy": policy})
    document = {
        "probability": 0.1,
        "decision": "refer",
        "because": ["income", "owns", "unusual"],
        "model": "a@1",
    }
    drawn = verdict_of(bundle).supposed(document, {})
    for words in (
        "For a person",
        "À examiner",
        "Is that a year&#x27;s?",
        "Par an ?",
        "Owns a home",
        "out of the ordinary",
    ):
        assert words in drawn
    # A sentence of the bundle ends before the next one begins.
    assert "Is that a year&#x27;s? “Owns a home” does not fit the other values. Some of" in drawn
    assert "Granted" not in drawn.partition("<svg")[0]
    # Of what is needed is said what the case lacks.
    incomplete = document | {"decision": "incomplete", "because": ["needed"]}
    for given, lacking in ({}, "at least 2 of 3 inputs"), ({"income": 900}, "at least 2 of 3 inputs"):
        drawn = verdict_of(bundle).supposed(incomplete, given)
        assert "Incomplete" in drawn
        assert f"Needed: {lacking}." in drawn
    always = {"known_at_least": 2, "always": ["contract"]}
    bundle = Bundle.from_manifest(three, manifest | {"policy": policy | {"needed": always}})
    assert "Needed: Contract." in verdict_of(bundle).supposed(incomplete, {"income": 900, "owner": 1})
