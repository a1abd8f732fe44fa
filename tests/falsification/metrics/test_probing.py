"""Probes, their control labels, the surface model, tallies, coverage: against loops, and against worlds whose answer is
known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard
from scipy.sparse import csr_array
from sklearn.metrics import balanced_accuracy_score, f1_score

from raysae.falsification.metrics import coverage, probing, surface
from raysae.falsification.metrics.alignment import Alignment, align
from raysae.falsification.metrics.probing import RAW, Probed
from raysae.falsification.metrics.tallies import Tally, accuracy, contrast, f1, rate, score, scores, uninformed

BOOT = {"bootstrap": 300, "seed": 0}


def blobs(seed: int, documents: int = 60, length: int = 20, apart: float = 1.5) -> dict[str, np.ndarray]:
    """Three labels, each with a direction of its own, in 16 dimensions of noise."""
    rng = np.random.default_rng(seed)
    document = np.repeat(np.arange(documents), length)
    y = rng.choice(3, len(document), p=[0.6, 0.3, 0.1])
    x = rng.normal(0, 1, (len(y), 16))
    x[np.arange(len(y)), y] += apart
    return {"x": x, "y": y, "document": document}


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_tallies_are_balanced_accuracy_f1_and_a_rate(seed: int):
    rng = np.random.default_rng(seed)
    truth, said, document = rng.integers(0, 3, 80), rng.integers(0, 3, 80), rng.integers(0, 7, 80)
    assert score(accuracy(truth, said, document, 7, 3)) == pytest.approx(balanced_accuracy_score(truth, said))
    fires, factors = rng.random((80, 4)) < 0.3, rng.random((80, 4)) < 0.3
    naive = np.mean([f1_score(factors[:, f], fires[:, f]) for f in range(4)])
    assert score(f1(fires, factors, document, 7)) == pytest.approx(naive)
    assert score(rate(fires[:, 0], document, 7)) == pytest.approx(fires[:, 0].mean())


def test_a_resample_of_documents_is_the_score_of_their_tokens():
    rng = np.random.default_rng(1)
    truth, said, document = rng.integers(0, 3, 200), rng.integers(0, 3, 200), np.repeat(np.arange(10), 20)
    drawn = rng.integers(0, 10, 10)
    rows = np.concatenate([np.flatnonzero(document == d) for d in drawn])
    weights = np.bincount(drawn, minlength=10)[None].astype(float)
    found = scores(accuracy(truth, said, document, 10, 3), weights)
    assert found[0] == pytest.approx(balanced_accuracy_score(truth[rows], said[rows]))


def test_tokens_without_a_label_and_classes_without_a_token_are_left_out():
    truth, said = np.array([0, 0, -1, 1]), np.array([0, 1, 0, 1])
    assert score(accuracy(truth, said, np.zeros(4, int), 1, 5)) == pytest.approx(0.75)
    assert np.isnan(score(accuracy(np.array([-1]), np.array([0]), np.zeros(1, int), 1, 2)))


def test_a_contrast_is_paired_by_document_and_seed():
    rng = np.random.default_rng(2)
    of = np.full((200, 1), 10.0)
    common = rng.binomial(10, rng.beta(2, 2, (200, 1))).astype(float)
    seeds = [{("G", "SEEN"): Tally(np.minimum(common + 1, 10), of), ("B", "SEEN"): Tally(common, of)} for _ in range(5)]
    paired = contrast(seeds, {("G", "SEEN"): 1.0, ("B", "SEEN"): -1.0}, **BOOT)
    alone = contrast(seeds, {("G", "SEEN"): 1.0}, **BOOT)
    assert paired.interval is not None and alone.interval is not None
    assert paired.interval[1] - paired.interval[0] < 0.2 * (alone.interval[1] - alone.interval[0])
    assert paired.value == pytest.approx(np.minimum(common + 1, 10).sum() / 2000 - common.sum() / 2000)
    with pytest.raises(ValueError, match="G was not measured on UNSEEN"):
        contrast(seeds, {("G", "UNSEEN"): 1.0}, **BOOT)
    with pytest.raises(ValueError, match="3 documents of SEEN, others 200"):
        contrast(
            [{**seeds[0], ("B", "SEEN"): Tally(of[:3], of[:3])}], {("G", "SEEN"): 1.0, ("B", "SEEN"): -1.0}, **BOOT
        )


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_probe_finds_what_is_there_and_says_it_in_the_units_of_its_input(sparse: bool, classes: int):
    fit, test = blobs(0), blobs(1)
    for part in (fit, test):
        part["x"] = np.maximum(part["x"] * np.geomspace(0.1, 10, 16), 0)
        part["y"] = np.minimum(part["y"], classes - 1)
    make = csr_array if sparse else np.asarray
    found = probing.fit(make(fit["x"]), fit["y"], fit["document"], seed=0)
    assert found.weights.shape == (classes, 16) and found.strength in probing.STRENGTHS
    said = probing.predict(found, make(test["x"]))
    assert (said == probing.predict(found, test["x"])).all()
    best = {2: 0.76, 3: 0.66}[classes]
    assert balanced_accuracy_score(test["y"], said) > best
    tally = probing.probe(
        make(fit["x"]), fit["y"], fit["document"], make(test["x"]), test["y"], test["document"],
        documents=60, classes=classes, seed=0,
    )  # fmt: skip
    assert score(tally) == pytest.approx(balanced_accuracy_score(test["y"], said))


def test_sparse_and_dense_inputs_give_the_same_probe():
    fit = blobs(0)
    dense, sparse = (probing.fit(make(fit["x"]), fit["y"], fit["document"], seed=0) for make in (np.asarray, csr_array))
    assert dense.strength == sparse.strength
    assert dense.weights == pytest.approx(sparse.weights, abs=0.02)
    assert dense.intercept == pytest.approx(sparse.intercept, abs=0.02)


def test_a_latent_that_fires_once_on_fit_decides_nothing_where_it_fires_often():
    fit, test = blobs(0), blobs(1)
    for part, firings in ((fit, 1), (test, len(test["y"]))):
        part["x"] = np.concatenate([np.maximum(part["x"], 0), np.zeros((len(part["y"]), 1))], axis=1)
        part["x"][:firings, -1] = 1.0
    said = [
        probing.predict(
            probing.fit(csr_array(fit["x"][:, :width]), fit["y"], fit["document"], seed=0), test["x"][:, :width]
        )
        for width in (16, 17)
    ]
    assert (said[0] == said[1]).mean() > 0.95


def test_the_nonlinear_probe_sees_what_no_line_separates():
    rng = np.random.default_rng(0)
    x, document = rng.normal(0, 1, (6000, 2)), np.arange(6000) // 20
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    said = probing.predict_nonlinear(x[:4000], y[:4000], document[:4000], x[4000:], seed=0)
    linear = probing.predict(probing.fit(x[:4000], y[:4000], document[:4000], seed=0), x[4000:])
    assert (said == y[4000:]).mean() > 0.9 > 0.6 > (linear == y[4000:]).mean()


def test_the_budget_is_whole_documents_and_labelled_tokens():
    document = np.repeat(np.arange(50), 10)
    y = np.where(np.arange(500) % 2, 1, -1)
    rows = probing.within_budget(y, document, seed=0, budget=42)
    assert (y[rows] >= 0).all() and len(rows) == 40 and len(np.unique(document[rows])) == 8
    assert len(probing.within_budget(y, document, seed=0, budget=1)) == 5
    assert len(probing.within_budget(y, document, seed=0, budget=10**6)) == 250


def test_one_class_or_too_few_documents_cannot_be_probed():
    fit = blobs(0)
    with pytest.raises(ValueError, match="1 classes in 60 labelled documents"):
        probing.fit(fit["x"], np.zeros_like(fit["y"]), fit["document"], seed=0)
    with pytest.raises(ValueError, match="in 2 labelled documents"):
        probing.fit(fit["x"], fit["y"], fit["document"] // 30, seed=0)


def test_control_labels_are_one_per_type_as_frequent_as_the_labels():
    rng = np.random.default_rng(0)
    token, y = rng.integers(0, 300, 5000), rng.choice([-1, 0, 1, 2], 5000, p=[0.2, 0.5, 0.2, 0.1])
    tables = [probing.control_labels(token, y, 310, seed) for seed in range(30)]
    for table in tables:
        share = np.bincount(table[token[y >= 0]], minlength=3) / (y >= 0).sum()
        assert share == pytest.approx(np.bincount(y[y >= 0]) / (y >= 0).sum(), abs=0.012)
    unseen = np.stack(tables)[:, 300:]
    assert len({tuple(row) for row in np.stack(tables)[:, :300]}) == 30 and len(np.unique(unseen)) == 3


def test_selectivity_tells_reading_from_memorising():
    """The label is a matter of context; a one-hot of the token type learns control labels and nothing else."""
    rng = np.random.default_rng(3)
    arms: dict[str, list[Probed]] = {}
    data = {}
    for split, seed in (("fit", 0), ("test", 1)):
        part = blobs(seed)
        token = np.random.default_rng(seed + 10).integers(0, 30, len(part["y"]))
        data[split] = {**part, "token": token, "types": np.eye(30)[token] + rng.normal(0, 0.01, (len(token), 30))}
    table = probing.control_labels(data["fit"]["token"], data["fit"]["y"], 30, seed=0)
    for arm, key in (("main", "x"), (RAW, "x"), ("surface_model", "types")):
        tallies = []
        for labels in ("y", "control"):
            fit_y, y = (data[s]["y"] if labels == "y" else table[data[s]["token"]] for s in ("fit", "test"))
            tallies.append(
                probing.probe(
                    data["fit"][key],
                    fit_y,
                    data["fit"]["document"],
                    data["test"][key],
                    y,
                    data["test"]["document"],
                    documents=60,
                    classes=3,
                    seed=0,
                )  # fmt: skip
            )
        arms[arm] = [Probed(*tallies)]
    found = probing.summarise(arms, **BOOT)
    assert found.value == found.ceiling and found.value is not None and found.value > 0.3
    assert found.interval is not None and found.interval[0] < found.value < found.interval[1]
    null = found.nulls["surface_model"].mean
    assert null is not None and null < -0.4 and found.also["control_accuracy_surface_model"] == pytest.approx(1)
    assert found.also["accuracy"] == pytest.approx(score(arms["main"][0].truth)) and (found.n, found.seeds) == (60, 1)


def test_uninformed_is_the_mean_accuracy_of_the_same_predictions_in_any_order():
    rng = np.random.default_rng(0)
    truth, said, document = rng.choice([-1, 1, 3], 300), rng.choice(5, 300, p=[0.1, 0.4, 0.1, 0.3, 0.1]), np.arange(300)
    known = np.flatnonzero(truth >= 0)
    dealt = []
    for _ in range(500):
        shuffled = said.copy()
        shuffled[known] = said[rng.permutation(known)]
        dealt.append(score(accuracy(truth, shuffled, document, 300, 5)))
    chance = score(uninformed(truth, said, document, 300, 5))
    assert chance == pytest.approx(np.mean(dealt), abs=0.004)
    assert chance == pytest.approx(((said[known] == 1).mean() + (said[known] == 3).mean()) / 2)
    assert score(uninformed(rng.permutation(np.arange(300) % 5), said, document, 300, 5)) == pytest.approx(1 / 5)


def test_surface_features_agree_with_a_loop_over_tokens():
    token, document = np.array([3, 1, 3, 3, 0, 2]), np.array([5, 5, 5, 5, 2, 2])
    found = surface.features(token, document, vocabulary=4, window=2).toarray()
    lengths = {5: 4, 2: 2}
    for i in range(6):
        before = [token[j] for j in (i - 2, i - 1) if j >= 0 and document[j] == document[i]]
        position = int((document[:i] == document[i]).sum())
        naive = np.zeros(8 + 2 * 65)
        naive[token[i]] = 1
        for other in before:
            naive[4 + other] += 1
        naive[8 + position] = 1
        naive[8 + 65 + lengths[document[i]]] = 1
        assert found[i] == pytest.approx(naive)


def test_buckets_are_exact_while_short_and_never_run_out():
    assert surface.bucket(np.array([0, 1, 31, 32, 37, 39, 64, 10**6])).tolist() == [0, 1, 31, 32, 32, 33, 36, 64]


def test_the_probe_covers_values_that_no_single_latent_detects():
    fit, test = blobs(0, apart=4.0), blobs(1, apart=4.0)
    turn = hadamard(16) / 4  # Every direction lies evenly across all coordinates.
    values = [np.where(part["y"] == 2, -1, part["y"]) for part in (fit, test)]
    f1_probe = coverage.probe_f1(
        fit["x"] @ turn, values[0], fit["document"], test["x"] @ turn, values[1], count=3, seed=0
    )
    assert (f1_probe[:2] > 0.9).all() and f1_probe[2] == 0
    factors = [v[:, None] == np.arange(3) for v in values]
    latents = [torch.tensor(np.maximum(part["x"] @ turn, 0)) for part in (fit, test)]
    main = align(latents[0], factors[0], latents[1], factors[1])
    found = coverage.summarise({"main": [main]}, probe=[f1_probe], n=3)
    assert found.value == 0 and found.ceiling == pytest.approx(2 / 3)
    assert found.interval is not None and found.interval[1] < 1


def test_coverage_counts_registered_factors_and_lets_one_latent_serve_two():
    one = Alignment(np.array([0, -1]), *(np.array([0.95, 0.0]),) * 3, any_test_f1=np.array([0.95, 0.91]))
    found = coverage.summarise({"main": [one] * 5, "random_dictionary": [one._replace(any_test_f1=np.zeros(2))]}, n=2)
    assert (found.value, found.nulls["random_dictionary"].mean, found.n) == (1.0, 0.0, 2)
    with pytest.raises(ValueError, match="3 registered"):
        coverage.summarise({"main": [one]}, n=3)
    assert coverage.summarise({"main": []}, n=0).not_run
