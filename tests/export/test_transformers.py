"""The transformers of scikit-learn before a linear model and before LightGBM, most as they come."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import pytest
from lightgbm import LGBMClassifier
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.cluster import Birch, BisectingKMeans, FeatureAgglomeration, KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import (
    NMF,
    PCA,
    DictionaryLearning,
    FactorAnalysis,
    FastICA,
    IncrementalPCA,
    KernelPCA,
    LatentDirichletAllocation,
    SparsePCA,
    TruncatedSVD,
)
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier, RandomTreesEmbedding
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # what comes next is hidden without
from sklearn.feature_selection import (
    RFE,
    RFECV,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.impute import IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer
from sklearn.kernel_approximation import Nystroem, PolynomialCountSketch, RBFSampler
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection
from xgboost import XGBClassifier

from export.assemble import write_conversion
from export.errors import ExportRefused
from export.sklearn.converters import own_converters
from export.sklearn.model import convert_sklearn
from server.model.bundle import Bundle
from tests.support.compatibility import hold
from tests.support.export_models import parity_report
from tests.support.representatives import represented

ROWS = 200
R = np.random.default_rng(7)
FRAME = pd.DataFrame(
    {
        "income": R.lognormal(10, 0.5, ROWS).round(2),
        "age": R.integers(18, 80, ROWS).astype(float),
        "rate": R.random(ROWS),
        "debt": R.gamma(2, 1000, ROWS),
    }
)
TARGET = (np.log(FRAME.income) + FRAME.age / 40 + FRAME.rate + R.normal(size=ROWS) * 0.5 > 12).astype(int)
GAPS = FRAME.mask(R.random(FRAME.shape) < 0.1)

#: Before them a StandardScaler stands, as it does where people use them.
SCALED: dict[str, Any] = {
    "Birch": Birch(n_clusters=3),
    "BisectingKMeans": BisectingKMeans(3, random_state=0),
    "FactorAnalysis": FactorAnalysis(2),
    "FastICA": FastICA(2, random_state=0),
    "FeatureAgglomeration": FeatureAgglomeration(2),
    "GaussianRandomProjection": GaussianRandomProjection(2, random_state=0),
    "IncrementalPCA": IncrementalPCA(2),
    "KernelPCA": KernelPCA(2, kernel="rbf"),
    "KMeans": KMeans(3, random_state=0),
    "LinearDiscriminantAnalysis": LinearDiscriminantAnalysis(),
    "MiniBatchKMeans": MiniBatchKMeans(3, random_state=0),
    "NeighborhoodComponentsAnalysis": NeighborhoodComponentsAnalysis(2, random_state=0),
    "PCA": PCA(2),
    "PCA(whiten=True)": PCA(2, whiten=True),
    "SparseRandomProjection": SparseRandomProjection(2, random_state=0),
    "TruncatedSVD": TruncatedSVD(2, random_state=0),
}
#: Folded into the trees where LightGBM comes next: equal to the bit by construction.
FOLDED: dict[str, Any] = {
    "FunctionTransformer()": FunctionTransformer(),
    "GenericUnivariateSelect": GenericUnivariateSelect(mode="k_best", param=2),
    "MaxAbsScaler": MaxAbsScaler(),
    "MinMaxScaler": MinMaxScaler(),
    "MinMaxScaler(clip=True)": MinMaxScaler(clip=True),
    "RFE": RFE(LogisticRegression(), n_features_to_select=2),
    "RFECV": RFECV(LogisticRegression(), cv=2),
    "RobustScaler": RobustScaler(),
    "SelectFdr": SelectFdr(),
    "SelectFpr": SelectFpr(),
    "SelectFromModel": SelectFromModel(RandomForestClassifier(5, random_state=0)),
    "SelectFwe": SelectFwe(),
    "SelectKBest": SelectKBest(k=2),
    "SelectPercentile": SelectPercentile(),
    "SequentialFeatureSelector": SequentialFeatureSelector(
        LogisticRegression(), n_features_to_select=2, cv=2
    ),
    "SimpleImputer": SimpleImputer(),
    "StandardScaler": StandardScaler(),
    "VarianceThreshold": VarianceThreshold(),
}
OTHERS: dict[str, Any] = {
    "Binarizer": Binarizer(threshold=0.5),
    "ColumnTransformer of several": ColumnTransformer(
        [
            ("a", StandardScaler(), ["income", "age"]),
            ("b", QuantileTransformer(n_quantiles=50), ["rate", "debt"]),
        ]
    ),
    "FeatureUnion of several": FeatureUnion([("a", SelectKBest(k=2)), ("b", MinMaxScaler())]),
    "FunctionTransformer(np.log1p)": FunctionTransformer(np.log1p),
    "KBinsDiscretizer": KBinsDiscretizer(5, quantile_method="averaged_inverted_cdf"),
    'KBinsDiscretizer(encode="ordinal")': KBinsDiscretizer(
        5, encode="ordinal", quantile_method="averaged_inverted_cdf"
    ),
    "MissingIndicator beside a SimpleImputer": FeatureUnion(
        [("a", SimpleImputer()), ("b", MissingIndicator())]
    ),
    "Normalizer": Normalizer(),
    'Normalizer("l1")': Normalizer("l1"),
    'Normalizer("max")': Normalizer("max"),
    "PolynomialFeatures": PolynomialFeatures(2),
    "PowerTransformer": PowerTransformer(),
    'PowerTransformer("box-cox")': PowerTransformer("box-cox"),
    "QuantileTransformer": QuantileTransformer(n_quantiles=100),
    'QuantileTransformer(output_distribution="normal")': QuantileTransformer(
        n_quantiles=100, output_distribution="normal"
    ),
    "SimpleImputer(add_indicator=True)": SimpleImputer(add_indicator=True),
    "SplineTransformer": SplineTransformer(),
    'SplineTransformer(extrapolation="periodic", include_bias=False)': SplineTransformer(
        extrapolation="periodic", include_bias=False
    ),
    'SplineTransformer(knots="quantile", degree=2)': SplineTransformer(knots="quantile", degree=2),
}
REFUSED: dict[str, Any] = {
    "DictionaryLearning": DictionaryLearning(2, max_iter=2),
    "IterativeImputer": IterativeImputer(max_iter=1),
    "KNNImputer": KNNImputer(),
    "LatentDirichletAllocation": LatentDirichletAllocation(2, max_iter=1),
    "NMF": NMF(2),
    "Nystroem": Nystroem(n_components=10),
    "PolynomialCountSketch": PolynomialCountSketch(n_components=10),
    "RandomTreesEmbedding": RandomTreesEmbedding(3, max_depth=3),
    "RBFSampler": RBFSampler(n_components=10),
    "SparsePCA": SparsePCA(2),
}
EVERY = SCALED | FOLDED | OTHERS | REFUSED
BOUND = 1e-12
NO_CONVERTER = (
    "expected steps that have a converter, got {}: fit another in its place (docs/compatibility.md lists "
    "those that have one), or make its columns outside of the model"
)
NO_SINGLE_ROW = (
    "expected a model that scores a row by itself, got one that scores two rows but not one (as "
    "scikit-learn's SparsePCA does): fit another step in its place, such as PCA"
)


def exported(name: str, folder: Path, *last: Any) -> Bundle:
    scaler = [StandardScaler()] if name in SCALED else []
    pipeline = make_pipeline(*scaler, clone(EVERY[name]), *last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline.fit(GAPS if "Imputer" in name else FRAME, TARGET)
    conversion = convert_sklearn(pipeline, "source.skops", b"")
    return write_conversion(
        folder / "bundle", conversion, schema=conversion.schema, name="m", version="1", ordinary_rows=1000
    )


def light() -> LGBMClassifier:
    return LGBMClassifier(n_estimators=4, num_leaves=6, verbose=-1, n_jobs=1)


@pytest.mark.parametrize(
    "name",
    represented(
        [*SCALED, *FOLDED, *OTHERS], "KMeans", "RFE", 'QuantileTransformer(output_distribution="normal")'
    ),
)
def test_a_transformer_before_models_gives_what_scikit_learn_gives(name: str, tmp_path: Path) -> None:
    linear = exported(name, tmp_path / "linear", StandardScaler(with_mean=False), LogisticRegression())
    assert linear.bound <= BOUND
    trees = exported(name, tmp_path / "trees", light())
    assert parity_report(trees)["total"]["margin_bits_differ"] == 0
    assert ("converter" in trees.manifest["source"]) == (name not in FOLDED)


@pytest.mark.parametrize("name", represented(REFUSED, "KNNImputer", "SparsePCA"))
def test_a_transformer_without_a_converter_is_refused_with_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportRefused) as refusal:
        exported(name, tmp_path, light())
    assert str(refusal.value) == refused(name)


def refused(name: str) -> str:
    return NO_SINGLE_ROW if name == "SparsePCA" else NO_CONVERTER.format(name)


def test_the_table_of_transformers_says_what_the_tests_hold() -> None:
    within, equal = f"within {BOUND:g}", "equal to the bit in every row tried"
    made = dict.fromkeys(FOLDED, (within, "equal to the bit, folded into the trees"))
    made |= dict.fromkeys(SCALED | OTHERS, (within, equal))
    made |= {name: (f"refused: {refused(name)}", "the same") for name in REFUSED}
    rows = [[name, *made[name]] for name in sorted(EVERY, key=str.lower)]
    hold(
        "Transformers of scikit-learn", ["transformer", "before LogisticRegression", "before LightGBM"], rows
    )


@pytest.mark.parametrize(
    "step", [SelectFromModel(LogisticRegression()), Normalizer()], ids=["selected", "normed"]
)
def test_what_stays_sparse_has_missing_values_for_zeros_before_xgboost(step: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    texts = pd.DataFrame(
        {name: random.choice([f"{name}{i}" for i in range(12)], ROWS) for name in ("a", "b")}
    )
    pipeline = make_pipeline(
        OneHotEncoder(handle_unknown="ignore"), step, XGBClassifier(n_estimators=4, n_jobs=1)
    )
    pipeline.fit(texts, TARGET)
    conversion = convert_sklearn(pipeline, "source.skops", b"")
    bundle = write_conversion(
        tmp_path / "b", conversion, schema=conversion.schema, name="m", version="1", ordinary_rows=500
    )
    assert parity_report(bundle)["total"]["margin_bits_differ"] == 0


@pytest.mark.parametrize("output", ["uniform", "normal"])
def test_quantiles_are_those_of_scikit_learn_at_between_and_beyond_them(output: str) -> None:
    random = np.random.default_rng(3)
    repeated = np.round(random.normal(size=(300, 4)) * [1, 3, 1e6, 1e-6], 1)
    repeated[:, 1] = np.round(repeated[:, 1])
    repeated[:150, 2] = 0.0
    repeated[:, 3] = 2.5
    fitted = QuantileTransformer(n_quantiles=40, output_distribution=output).fit(repeated)
    points = fitted.quantiles_.ravel()
    values = np.concatenate(
        [
            points,
            np.nextafter(points, np.inf),
            np.nextafter(points, -np.inf),
            random.normal(size=400),
            [1e9, -1e9, np.nan],
        ]
    )
    rows = np.repeat(values[:, None], 4, axis=1)
    with own_converters(fitted):
        made = to_onnx(fitted, initial_types=[("X", DoubleTensorType([None, 4]))], target_opset={"": 18})
    (ours,) = onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"X": rows})
    theirs = fitted.transform(rows)
    if output == "uniform":
        assert np.array_equal(ours, theirs, equal_nan=True)
    assert np.nanmax(np.abs(ours - theirs)) < 1e-14


class CountEncoder(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A step of another library than scikit-learn, as category_encoders has them."""

    def fit(self, frame: Any, _: Any = None) -> "CountEncoder":
        self.n_features_in_ = frame.shape[1]
        return self

    def transform(self, frame: Any) -> Any:
        return frame


def test_step_of_another_library_is_refused_by_its_name() -> None:
    pipeline = make_pipeline(CountEncoder(), light()).fit(FRAME, TARGET)
    with pytest.raises(ExportRefused) as refusal:
        convert_sklearn(pipeline, "source.skops", b"")
    assert str(refusal.value) == NO_CONVERTER.format("CountEncoder of tests")
