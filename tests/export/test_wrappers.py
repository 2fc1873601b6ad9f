"""What scikit-learn puts around models: thresholds become the bundle's, and what cannot is said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]  # ships no types
import lightgbm
import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    OneHotEncoder,
    PolynomialFeatures,
    PowerTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, SVR, LinearSVC
from xgboost import XGBClassifier

from export.arguments import parse
from export.assemble import write_conversion
from export.command import export as export_command
from export.errors import ExportRefused
from export.forest.conversion import Conversion
from export.load import LoadOptions, load
from export.onnx.options import OnnxOptions
from server.model.bundle import Bundle, Decision
from server.model.predictor import Predictor
from tests.support.export_models import export

pytestmark = pytest.mark.whole

R = np.random.default_rng(5)
MATRIX = R.normal(size=(240, 3))
TARGET = np.where(MATRIX[:, 0] + R.normal(size=240) > 0, "late", "good")


def light() -> Any:
    return LGBMClassifier(n_estimators=5, num_leaves=5, verbose=-1, n_jobs=1)


def loaded(folder: Path, model: Any) -> Conversion:
    joblib.dump(model, folder / "m.joblib")
    return load(folder / "m.joblib", LoadOptions(trust_pickle=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda: TunedThresholdClassifierCV(light(), cv=2, thresholds=9),
        lambda: FixedThresholdClassifier(make_pipeline("passthrough", light()), threshold=0.3),
    ],
)
def test_a_threshold_decides_as_it_did(make: Any, tmp_path: Path) -> None:
    model = make().fit(MATRIX, TARGET)
    bundle = export(tmp_path, loaded(tmp_path, model))
    assert bundle.decision.threshold == getattr(model, "best_threshold_", 0.3)
    predictor = Predictor(bundle)
    decided = [bundle.outcomes[predictor.predict(row.tobytes())[1]] for row in MATRIX]
    assert decided == model.predict(MATRIX).tolist()


TIED: dict[str, Any] = {
    "a forest of an even number of trees": lambda: RandomForestClassifier(4, random_state=0),
    "votes": lambda: VotingClassifier(
        [(str(i), RandomForestClassifier(2, random_state=i)) for i in (0, 1)], voting="soft"
    ),
    "GradientBoosting, which alone gives the second": lambda: GradientBoostingClassifier(
        init="zero", n_estimators=1, min_samples_split=999
    ),
    "LightGBM without a split": lambda: LGBMClassifier(
        n_estimators=1, boost_from_average=False, min_child_samples=999, verbose=-1, n_jobs=1
    ),
    "XGBoost without a split": lambda: XGBClassifier(n_estimators=1, base_score=0.5, gamma=1e9, n_jobs=1),
}


@pytest.mark.parametrize("name", TIED)
def test_of_two_equal_probabilities_the_class_of_predict_is_answered(name: str, tmp_path: Path) -> None:
    target = np.argsort(np.argsort(R.normal(size=240))) % 2  # as many of each, whatever the columns
    model = TIED[name]().fit(MATRIX, target)
    assert (model.predict_proba(MATRIX)[:, 1] == 0.5).any()
    bundle = export(tmp_path, loaded(tmp_path, model))
    predictor = Predictor(bundle)
    decided = [predictor.predict(row.tobytes())[1] for row in MATRIX]
    assert decided == model.predict(MATRIX).tolist()
    assert bundle.read_json("parity.json")["classes"]["rows"] > 300


@pytest.mark.filterwarnings("ignore::FutureWarning")  # scikit-learn 1.11 has no such SVC any more
def test_a_class_that_does_not_follow_from_probabilities_is_refused(tmp_path: Path) -> None:
    """An SVC predicts by votes, beside probabilities that are fitted to them afterwards."""
    several = SVC(probability=True, random_state=0).fit(MATRIX, np.digitize(MATRIX[:, 0], [0, 1]))
    off = replace(loaded(tmp_path, light().fit(MATRIX, TARGET)), threshold=0.7)
    for conversion in (loaded(tmp_path, several), off):
        with pytest.raises(ExportRefused, match=r"another in \d+ of \d+ rows: .* CalibratedClassifierCV"):
            export(tmp_path, conversion)
    decision = Decision(0.5)  # said by the user
    write_conversion(tmp_path / "b", off, schema=off.schema, name="m", version="1", decision=decision,
                     ordinary_rows=300)  # fmt: skip


@pytest.mark.parametrize("encode", ["onehot", "onehot-dense", "ordinal"])
def test_numbers_beside_the_edge_of_a_bin_are_in_scikit_learns_bin(encode: str, tmp_path: Path) -> None:
    """Also large ones, which are the edge itself in float32."""
    rows = np.abs(MATRIX) * [1, 1e3, 1e9]
    bins = KBinsDiscretizer(4, encode=encode, quantile_method="averaged_inverted_cdf")
    model = make_pipeline(bins, LogisticRegression()).fit(rows, TARGET)
    predictor = Predictor(export(tmp_path, loaded(tmp_path, model)))
    asked = []
    for column, edges in enumerate(bins.bin_edges_):
        for edge in edges:
            for value in (edge, np.nextafter(edge, -np.inf), np.nextafter(edge, np.inf)):
                asked.append(rows[0].copy())
                asked[-1][column] = value
    found = [predictor.predict(row.tobytes())[0] for row in asked]
    assert np.abs(found - model.predict_proba(np.array(asked))[:, 1]).max() < 1e-12


@pytest.mark.parametrize(
    ("steps", "positive"),
    [
        ([PowerTransformer()], False),
        ([PowerTransformer("box-cox", standardize=False), StandardScaler()], True),
        ([StandardScaler(), PolynomialFeatures(3)], False),
        ([PolynomialFeatures(2, interaction_only=True, include_bias=False)], False),
    ],
)
def test_powers_are_in_double_precision_also_of_rows_unlike_those_of_training(
    steps: list[Any], positive: bool, tmp_path: Path
) -> None:
    """So the bound needs no rows of the user's, and holds where numbers are large or all but 0."""
    rows = np.exp(MATRIX) if positive else MATRIX * [1, 50, 1e4]
    model = make_pipeline(*steps, LinearRegression()).fit(rows, MATRIX[:, 0])
    conversion = loaded(tmp_path, model)
    assert not conversion.sampled
    predictor = Predictor(export(tmp_path, conversion))
    asked = np.concatenate([rows * scale for scale in (1, 1e3, 1e-3, 1e-12)])
    found, expected = predictor.margins(asked).ravel(), model.predict(asked)
    assert (np.abs(found - expected) / np.maximum(1, np.abs(expected))).max() < 1e-12


def test_a_part_in_single_precision_asks_for_data_or_ranges(tmp_path: Path) -> None:
    rows = MATRIX[:60, :1] * 1e3
    model = make_pipeline(StandardScaler(), SVR()).fit(rows, MATRIX[:60, 0])
    joblib.dump(model, tmp_path / "m.joblib")
    np.savetxt(tmp_path / "t.csv", rows, header="f0", comments="")
    (tmp_path / "d.json").write_text('[{"name": "f0", "minimum": -3000, "maximum": 3000}]')
    said = [str(tmp_path / "m.joblib"), "--trust-pickle", "--replace", "--out", str(tmp_path / "out")]
    with pytest.raises(ExportRefused, match=r"--data .* StandardScaler \+ SVR.*float32.* \(f0 has none\)"):
        export_command(parse(said), ordinary_rows=300)
    for known in (["--data", str(tmp_path / "t.csv")], ["--schema", str(tmp_path / "d.json")]):
        export_command(parse([*said, *known]), ordinary_rows=300)
        assert 0 < Bundle.load(tmp_path / "out").bound < 1e-5


def refused(make: Any, words: str, folder: Path) -> None:
    with pytest.raises(ExportRefused, match=words):
        loaded(folder, make)


def test_what_cannot_be_is_said_with_what_to_do(tmp_path: Path) -> None:
    first = FixedThresholdClassifier(light(), threshold=0.3, pos_label="good").fit(MATRIX, TARGET)
    refused(first, "pos_label='good': serve model.estimator_ and say --threshold", tmp_path)
    margin = FixedThresholdClassifier(LogisticRegression(), response_method="decision_function")
    refused(margin.fit(MATRIX, TARGET), "threshold on predict_proba", tmp_path)
    votes = VotingClassifier([("a", light()), ("b", LogisticRegression())]).fit(MATRIX, TARGET)
    refused(votes, 'VotingClassifier without: fit it with voting="soft"', tmp_path)
    refused(
        make_pipeline(SVC()).fit(MATRIX, TARGET), "SVC without: fit it in a CalibratedClassifierCV", tmp_path
    )
    from sklearn.compose import TransformedTargetRegressor

    powers = TransformedTargetRegressor(LinearRegression(), transformer=PowerTransformer())
    refused(powers.fit(MATRIX, MATRIX[:, 0]), "NumPy's functions or a scaler .* PowerTransformer", tmp_path)
    inside = CalibratedClassifierCV(make_pipeline(StandardScaler(), LinearSVC()), cv=2)
    refused(inside.fit(MATRIX, TARGET), "of a calibrated pipeline, calibrate the last step", tmp_path)
    behind = make_pipeline(StandardScaler(), CalibratedClassifierCV(LinearSVC(), cv=2)).fit(MATRIX, TARGET)
    assert loaded(tmp_path, behind).task == "binary"
    data = lightgbm.Dataset(MATRIX, TARGET == "late")
    several = lightgbm.cv({"objective": "binary", "verbosity": -1}, data, 2, nfold=2, return_cvbooster=True)
    refused(several["cvbooster"], "CVBooster of several: save one of its boosters", tmp_path)


def test_another_skl2onnx_is_named_where_a_private_function_of_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "skl2onnx.operator_converters.calibrated_classifier_cv._transform_isotonic"
    monkeypatch.setattr(name, lambda scope, container: (scope, container))
    isotonic = CalibratedClassifierCV(LogisticRegression(), method="isotonic", cv=2).fit(MATRIX, TARGET)
    with pytest.raises(
        ExportRefused, match=r"_transform_isotonic\(scope, container, model, .* got .* without"
    ):
        loaded(tmp_path, isotonic)
    assert loaded(tmp_path, CalibratedClassifierCV(LogisticRegression(), cv=2).fit(MATRIX, TARGET))


@pytest.mark.parametrize("is_pipeline", [False, True])
def test_one_of_several_targets_is_chosen_by_its_number(is_pipeline: bool, tmp_path: Path) -> None:
    both = MultiOutputRegressor(LGBMRegressor(n_estimators=5, verbose=-1, n_jobs=1))
    model = make_pipeline(StandardScaler(), both) if is_pipeline else both
    model.fit(MATRIX, np.column_stack([MATRIX[:, 0] * 3, np.abs(MATRIX[:, 1])]))
    joblib.dump(model, tmp_path / "m.joblib")
    for wanted in (None, "2"):
        options = LoadOptions(trust_pickle=True, onnx=OnnxOptions(output=wanted))
        with pytest.raises(ExportRefused, match=r"got 2: choose one by its number with --output \(0 to 1\)"):
            load(tmp_path / "m.joblib", options)
    options = LoadOptions(trust_pickle=True, onnx=OnnxOptions(output="1"))
    bundle = export(tmp_path, load(tmp_path / "m.joblib", options))
    assert bundle.exact
    assert bundle.manifest["source"]["output"] == "1"
    assert Predictor(bundle).margins(MATRIX[:50]).tolist() == model.predict(MATRIX[:50])[:, 1].tolist()


class Sampler:
    """As those of imbalanced-learn: it changes the rows of a fit, and has no `transform`."""

    def fit_resample(self, rows: Any, target: Any) -> Any:
        """The late ones twice."""
        late = target == "late"
        return np.concatenate([rows, rows[late]]), np.concatenate([target, target[late]])


class Resampling(Pipeline):  # type: ignore[misc]  # scikit-learn ships no types
    """As that of imbalanced-learn: rows that are scored pass by the samplers."""

    def _validate_steps(self) -> None:
        """A sampler has no `transform`, and may be a step all the same."""

    def _iter(self, *args: Any, **kwargs: Any) -> Any:
        return (step for step in super()._iter(*args, **kwargs) if not hasattr(step[2], "fit_resample"))


@pytest.mark.parametrize("with_scaler", [True, False])
def test_a_sampler_of_the_training_changes_no_row_that_is_scored(with_scaler: bool, tmp_path: Path) -> None:
    before = [("scale", StandardScaler().fit(MATRIX))] if with_scaler else []
    rows, target = Sampler().fit_resample(before[0][1].transform(MATRIX) if before else MATRIX, TARGET)
    model = Resampling([*before, ("sample", Sampler()), ("model", light().fit(rows, target))])
    bundle = export(tmp_path, loaded(tmp_path, model))
    assert bundle.exact
    found = [Predictor(bundle).predict(row.tobytes())[0] for row in MATRIX[:20]]
    assert found == model.predict_proba(MATRIX[:20])[:, 1].tolist()


def test_weights_of_a_vote_may_be_a_list(tmp_path: Path) -> None:
    members = [("a", light()), ("b", RandomForestClassifier(3, max_depth=3)), ("c", LogisticRegression())]
    model = VotingClassifier(members, voting="soft", weights=[1, 2, 3]).fit(MATRIX, TARGET)
    assert export(tmp_path, loaded(tmp_path, model)).bound <= 1e-12


def test_members_of_a_stack_may_have_columns_of_their_own(tmp_path: Path) -> None:
    """A text that one member's encoder refuses is refused, though another takes it."""
    frame = pd.DataFrame({"word": np.where(MATRIX[:, 0] > 0, "a", "b"), "number": MATRIX[:, 1]})
    columns = ColumnTransformer([("t", OneHotEncoder(), ["word"])], remainder="passthrough")
    words = ColumnTransformer([("t", OneHotEncoder(handle_unknown="ignore"), ["word"])])
    numbers = ColumnTransformer([("n", StandardScaler(), ["number"])])
    members = [
        ("a", make_pipeline(columns, light())),
        ("b", make_pipeline(numbers, LogisticRegression())),
        ("c", make_pipeline(words, LogisticRegression())),
    ]
    model = StackingClassifier(members, cv=2).fit(frame, TARGET)
    bundle = export(tmp_path, loaded(tmp_path, model))
    assert [(f.name, f.unknown) for f in bundle.schema.features] == [("word", ""), ("number", "")]
    rows = np.column_stack([frame.word == "b", frame.number]).astype(np.float64)
    margins = Predictor(bundle).margins(rows)
    assert np.abs(margins - model.predict_proba(frame)[:, 1]).max() <= bundle.bound <= 1e-12


def test_categories_that_are_one_text_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"code": pd.Categorical([1, "1"] * 120), "number": MATRIX[:, 1]})
    with pytest.raises(ExportRefused, match="expected categories of code that differ as texts"):
        export(tmp_path, loaded(tmp_path, light().fit(frame, frame.code == "1")))
