"""Linear probes, one family for every representation, and what they read that is not a matter of which token it is.

Representations: raw activations, SAE latents, guided latents, the surface model. Every probe has the same form, the
same grid of strengths, chosen by cross-validation on FIT, and the same budget of tokens, so that a difference in
accuracy is one of the representations (SCIENCE 5.3). Accuracy means balanced accuracy.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neural_network import MLPClassifier

from raysae.falsification.metrics.documents import MAIN, as_null
from raysae.falsification.metrics.tallies import Tally, accuracy, contrast, score
from raysae.types.metric import Metric

BUDGET = 10_000
"""FIT tokens a probe is trained on, whole documents."""
FOLDS = 3
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse L2 penalties that are tried."""
ITERATIONS = 200
HIDDEN = 64
"""Units of the non-linear probe."""

RAW = "raw_activations"
"""The arm whose accuracy is the ceiling: the model computes no more than its activations hold."""

Features = np.ndarray | csr_array
"""float [n, d]"""


class Probe(NamedTuple):
    """A linear classifier in the units of its input."""

    classes: Int[np.ndarray, " c"]
    weights: Float[np.ndarray, "c d"]
    intercept: Float[np.ndarray, " c"]
    strength: float


class Probed(NamedTuple):
    """One representation in one seed, on TEST."""

    truth: Tally
    """Of the probe for the labels."""
    control: Tally
    """Of the probe for the control labels."""


def fit(
    x: Features, y: Int[np.ndarray, " n"], document: Int[np.ndarray, " n"], *, seed: int, budget: int = BUDGET
) -> Probe:
    """An L2 logistic regression on FIT tokens; y = -1 is a token without a label. ValueError for a single class, or
    fewer documents than folds."""
    rows = within_budget(y, document, seed, budget)
    x, y, document = x[rows], y[rows], document[rows]
    classes, documents = np.unique(y), len(np.unique(document))
    if len(classes) < 2 or documents < FOLDS:
        raise ValueError(
            f"{len(classes)} classes in {documents} labelled documents; allowed: two classes or more, {FOLDS} documents"
        )
    centre, scale = _units(x)
    search = GridSearchCV(
        LogisticRegression(class_weight="balanced", max_iter=ITERATIONS, tol=1e-3),
        {"C": STRENGTHS},
        scoring="balanced_accuracy",
        cv=GroupKFold(FOLDS),
    )
    with warnings.catch_warnings():
        # The number of steps is part of the budget; a class that a fold does not hold is no accident of ours.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "y_pred contains classes")
        search.fit(_in_units(x, centre, scale), y, groups=document)
    weights = search.best_estimator_.coef_.astype(np.float64) / scale
    intercept = search.best_estimator_.intercept_ - weights @ centre
    if len(classes) == 2:  # scikit-learn keeps one row: the log odds of the second class.
        weights = np.concatenate([np.zeros_like(weights), weights])
        intercept = np.concatenate([np.zeros_like(intercept), intercept])
    return Probe(classes, weights, intercept, float(search.best_params_["C"]))


def logits(probe: Probe, x: Features) -> Float[np.ndarray, "n c"]:
    """Unnormalised log probability of each class."""
    return np.asarray(x @ probe.weights.T + probe.intercept, dtype=np.float64)


def predict(probe: Probe, x: Features) -> Int[np.ndarray, " n"]:
    return probe.classes[logits(probe, x).argmax(axis=1)]


def predict_nonlinear(
    fit_x: Features,
    fit_y: Int[np.ndarray, " n"],
    fit_document: Int[np.ndarray, " n"],
    x: Features,
    *,
    seed: int,
    budget: int = BUDGET,
) -> Int[np.ndarray, " k"]:
    """What a network of one hidden layer says, trained on as many tokens of each class: the strongest probe that a
    tripwire compares with, never a verdict's number."""
    rows = within_budget(fit_y, fit_document, seed, budget)
    rng, y = np.random.default_rng(seed), fit_y[rows]
    classes = np.unique(y)
    even = np.concatenate([rng.choice(rows[y == one], len(rows) // len(classes)) for one in classes])
    centre, scale = _units(fit_x[even])
    network = MLPClassifier((HIDDEN,), early_stopping=True, n_iter_no_change=5, max_iter=50, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(_in_units(fit_x[even], centre, scale), fit_y[even])
    return np.asarray(network.predict(_in_units(x, centre, scale)))


def within_budget(
    y: Int[np.ndarray, " n"], document: Int[np.ndarray, " n"], seed: int, budget: int
) -> Int[np.ndarray, " k"]:
    """Labelled rows of random whole documents, as many as fit into the budget and one at least."""
    labelled = np.flatnonzero(y >= 0)
    _, inverse, counts = np.unique(document[labelled], return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(counts))
    taken = order[: max(1, int((np.cumsum(counts[order]) <= budget).sum()))]
    return labelled[np.isin(inverse, taken)]


def control_labels(
    token_id: Int[np.ndarray, " n"], y: Int[np.ndarray, " n"], vocabulary: int, seed: int
) -> Int[np.ndarray, " vocabulary"]:
    """A label per token type that says nothing but which type it is (Hewitt and Liang, 1909.03368).

    Types in random order share out the labels so that, over the tokens at hand, each label is as frequent as in `y`, to
    within one type. Index the table with the token ids of any split; keep -1 where y is -1.
    """
    rng = np.random.default_rng(seed)
    known = y >= 0
    classes, marginals = np.unique(y[known], return_counts=True)
    mass = np.bincount(token_id[known], minlength=vocabulary).astype(np.float64)
    order = rng.permutation(vocabulary)
    middle = np.empty(vocabulary)
    middle[order] = np.cumsum(mass[order]) - mass[order] / 2
    shuffled = rng.permutation(len(classes))
    edges = np.cumsum(marginals[shuffled])
    found = classes[shuffled][np.minimum(np.searchsorted(edges, middle, side="right"), len(classes) - 1)]
    unseen = mass == 0  # They would all take the label of their neighbour in the order.
    found[unseen] = rng.choice(classes, size=int(unseen.sum()), p=marginals / marginals.sum())
    return found


def probe(
    fit_x: Features,
    fit_y: Int[np.ndarray, " n"],
    fit_document: Int[np.ndarray, " n"],
    x: Features,
    y: Int[np.ndarray, " k"],
    document: Int[np.ndarray, " k"],
    *,
    documents: int,
    classes: int,
    seed: int,
    budget: int = BUDGET,
) -> Tally:
    """Train on FIT, count on another split."""
    found = predict(fit(fit_x, fit_y, fit_document, seed=seed, budget=budget), x)
    return accuracy(y, found, document, documents, classes)


def summarise(arms: Mapping[str, Sequence[Probed]], *, bootstrap: int, seed: int) -> Metric:
    """Selectivity of the SAE's latents: accuracy for the labels minus accuracy for control labels (SCIENCE 5.3).

    `arms` maps `main` (latents), `raw_activations` (the ceiling) and nulls to a Probed per seed; an arm that does not
    depend on the SAE has one.
    """
    signs = {("truth", "TEST"): 1.0, ("control", "TEST"): -1.0}
    keyed = {
        arm: [{("truth", "TEST"): one.truth, ("control", "TEST"): one.control} for one in seeds]
        for arm, seeds in arms.items()
    }
    found = {arm: contrast(seeds, signs, bootstrap=bootstrap, seed=seed) for arm, seeds in keyed.items()}
    also: dict[str, float | None] = {}
    for arm, seeds in arms.items():
        suffix = "" if arm == MAIN else f"_{arm}"
        also[f"accuracy{suffix}"] = float(np.mean([score(one.truth) for one in seeds]))
        also[f"control_accuracy{suffix}"] = float(np.mean([score(one.control) for one in seeds]))
    main, n = found[MAIN], _documents(arms[MAIN])
    return Metric(
        name="probing",
        unit="balanced accuracy above control labels",
        direction=">=",
        value=main.value if main.interval else None,
        interval=main.interval,
        n=n,
        unit_of_sampling="document",
        seeds=len(arms[MAIN]),
        per_seed=main.per_seed if main.interval else (),
        nulls={arm: as_null(one, _documents(arms[arm])) for arm, one in found.items() if arm not in (MAIN, RAW)},
        ceiling=found[RAW].value if RAW in found and found[RAW].interval else None,
        also=also,
        not_run=None if main.interval else "No TEST token carries the label.",
    )


def _units(x: Features) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """What to subtract from each column and what to divide it by: its deviation, but never less than the median one.

    A latent that fires once on FIT would else be blown up, and decide alone where it fires more often. The intercept is
    free, so subtracting changes nothing but the number of steps; it would fill a sparse matrix.
    """
    sparse = isinstance(x, csr_array)
    mean = np.asarray(x.mean(axis=0, dtype=np.float64)).ravel()
    square = np.asarray((x.multiply(x) if sparse else x * x).mean(axis=0, dtype=np.float64)).ravel()
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    moves = deviation[deviation > 0]
    scale = np.maximum(deviation, np.median(moves)) if len(moves) else np.ones_like(deviation)
    return (np.zeros_like(mean) if sparse else mean), scale


def _in_units(x: Features, centre: Float[np.ndarray, " d"], scale: Float[np.ndarray, " d"]) -> Features:
    if isinstance(x, csr_array):
        return csr_array(x * (1 / scale))
    return np.asarray((x - centre) / scale)


def _documents(seeds: Sequence[Probed]) -> int:
    return int((seeds[0].truth.of.sum(axis=1) > 0).sum())
