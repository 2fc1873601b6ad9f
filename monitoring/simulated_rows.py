"""Rows as a bundle's reference tells of training: each column, the score, numbers together, and groups."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from monitoring.drift.joint import read_joint
from monitoring.drift.rows import reference_of
from monitoring.errors import LogError
from server.model.bundle import Bundle
from server.model.distribution import Distribution, Reference
from server.model.joint import STEPS, Joint, correlations, places
from server.model.predictor import Predictor
from server.model.schema import Feature, Matrix, Schema

_POOL_ROWS, _ROUNDS, _DRAWS = 40_000, 30, 3
_APART = Joint(1, [], [], [])

Vector = npt.NDArray[np.float64]
Bins = npt.NDArray[np.intp]


def simulated_rows(bundle: Bundle, count: int, random: np.random.Generator) -> Matrix:
    """So many rows, float64 [count, F], of which drift against the reference finds none; raises `LogError`.

    What goes together goes so as far as the reference tells; the rest is independent.
    """
    reference, joint, predictor = reference_of(bundle), read_joint(bundle) or _APART, Predictor(bundle)
    pool = _pool(bundle, reference, joint, random)
    scores = predictor.output_array(predictor.margins(pool))
    weights = _weights(bundle.schema, pool, scores, reference, joint)
    return pool[random.choice(len(pool), size=count, p=weights)]


def _pool(bundle: Bundle, reference: Reference, joint: Joint, random: np.random.Generator) -> Matrix:
    """Rows that go together as in training: drawn, measured, and drawn again by what was missed."""
    wanted = np.eye(len(joint.names))
    wanted[np.triu_indices(len(wanted), 1)] = joint.correlations
    wanted += np.triu(wanted, 1).T
    copula = wanted.copy()
    for _ in range(_DRAWS):
        pool = _drawn(bundle, reference, joint, copula, random)
        # Of bins, and over groups, it comes out somewhat smaller or larger than what it is drawn by.
        copula += wanted - correlations(places(bundle.schema, pool, reference.features, joint.names))
        np.fill_diagonal(copula, 1.0)
    return pool


def _drawn(
    bundle: Bundle, reference: Reference, joint: Joint, copula: Matrix, random: np.random.Generator
) -> Matrix:
    """A pool of rows, float64 [n, F], numbers of a Gaussian copula with these correlations."""
    schema = bundle.schema
    pool = np.empty((_POOL_ROWS, len(schema)))
    ranks = random.random(pool.shape)
    # Correlations of pairs, each of other rows, need not be of one table: `eigh` takes one that is near.
    latent = random.multivariate_normal(
        np.zeros(len(copula)), copula, size=_POOL_ROWS, method="eigh", check_valid="ignore"
    )
    for name, column in zip(joint.names, latent.T, strict=True):
        ranks[:, schema.names.index(name)] = (column.argsort().argsort() + 0.5) / _POOL_ROWS
    # Categories come first: numbers are drawn within their groups.
    for i in sorted(range(len(schema)), key=lambda i: schema.features[i].kind != "category"):
        feature = schema.features[i]
        shares = _shares(schema, pool, feature.name, reference.features[feature.name], joint)
        present = np.cumsum(shares[:, :-1], axis=1)
        bins = (ranks[:, [i]] * present[:, -1:] >= present).sum(axis=1).clip(max=present.shape[1] - 1)
        is_missing = random.random(_POOL_ROWS) < shares[:, -1]
        values = _values(bundle, feature, reference.features[feature.name], bins, random)
        if shares_rounded := joint.rounded.get(feature.name):  # of an older reference none: its rows stay
            values = _rounded(values, shares_rounded, random)
        pool[:, i] = np.where(is_missing, np.nan, values)
    return pool


def _shares(schema: Schema, pool: Matrix, name: str, distribution: Distribution, joint: Joint) -> Matrix:
    """The share of each bin of a feature by row, float64 [n, bins + 1], missing last.

    Of a row in several groups, as if they told independently of one another.
    """
    overall = _overall(distribution)
    shares = np.tile(overall, (len(pool), 1))
    for segment in joint.segments:
        if name in segment.counts:
            inside = pool[:, schema.names.index(segment.feature)] == segment.code
            there = np.array(segment.counts[name]) / segment.n
            shares[inside] *= np.divide(there, overall, out=np.zeros(len(overall)), where=overall > 0)
    # Where groups contradict each other the whole tells.
    shares[~(shares.sum(axis=1) > 0)] = overall
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _values(
    bundle: Bundle, feature: Feature, distribution: Distribution, bins: Bins, random: np.random.Generator
) -> Vector:
    """A value anywhere in each bin, float64 [n]; a heap such as 0 is a bin without a width."""
    if feature.kind in ("category", "flag") or distribution.has_codes:
        return bins.astype(np.float64)
    ends = np.array([distribution.range[0], *distribution.edges, distribution.range[1]])
    if distribution.missing_rate < 1 and not np.isfinite(ends).all():
        raise LogError(
            f"expected the range of {feature.name} in the reference of {bundle.label}, got none: "
            "export it again"
        )
    bottom, top = ends[bins], ends[bins + 1]
    values: Vector = top - (top - bottom) * random.random(len(bins))
    return np.ceil(values) if feature.form_kind == "integer" else values


def _rounded(values: Vector, shares: Sequence[float], random: np.random.Generator) -> Vector:
    """As many of the values, float64 [n], rounded up to each of `STEPS` as `shares` have it of training."""
    part = random.random(len(values))
    for step, share in zip(STEPS, shares, strict=False):
        values = np.where(part < share, np.ceil(values / step) * step, values)
    return values


def _weights(schema: Schema, pool: Matrix, scores: Vector, reference: Reference, joint: Joint) -> Vector:
    """How often each row is drawn, so that columns, score and groups are as in the reference, float64 [n].

    Source: W. Deming, F. Stephan, Annals of Mathematical Statistics 11 (1940), raking.
    """
    bins = {name: _bins(pool[:, i], reference.features[name]) for i, name in enumerate(schema.names)}
    margins = [(bins[name], _overall(reference.features[name])) for name in schema.names]
    margins.append((_bins(scores, reference.score), _overall(reference.score)))
    for segment in joint.segments:
        inside = pool[:, schema.names.index(segment.feature)] == segment.code
        for name, counts in segment.counts.items():
            wanted = np.array([*counts, joint.n - segment.n]) / joint.n
            margins.append((np.where(inside, bins[name], len(counts)), wanted))
    weights = np.full(len(pool), 1 / len(pool))
    for _ in range(_ROUNDS):
        for cells, wanted in margins:
            found = np.bincount(cells, weights, minlength=len(wanted))
            weights *= np.divide(wanted, found, out=np.zeros(len(wanted)), where=found > 0)[cells]
            weights /= weights.sum()
    return weights


def _overall(distribution: Distribution) -> Vector:
    """The share of each bin in training, missing last."""
    present = 1 - distribution.missing_rate
    return np.array([*(share * present for share in distribution.shares), distribution.missing_rate])


def _bins(values: Vector, distribution: Distribution) -> Bins:
    """The bin of each value, the last one for missing ones."""
    bins = np.searchsorted(distribution.edges, values, side="left")
    return np.where(np.isnan(values), len(distribution.shares), bins)
