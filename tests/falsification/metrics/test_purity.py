import json

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import silhouette_score

from raysae.falsification.metrics import purity
from raysae.falsification.metrics.codes import Code
from raysae.falsification.metrics.dictionaries import random_rows, unit
from raysae.falsification.metrics.observation import UNDEFINED
from raysae.falsification.metrics.purity import BINS, choose, coherence, measure, summarise

TOKENS, DOCUMENTS, LATENTS, KINDS = 2000, 200, 12, 4


def sample(seed: int = 0, leak: float = 0.0) -> tuple[Code, np.ndarray, np.ndarray]:
    """Latent j fires strongly on tokens of label j mod 4, weakly with probability `leak` on any token."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, KINDS, TOKENS)
    strong = (labels[:, None] == np.arange(LATENTS) % KINDS) & (rng.random((TOKENS, LATENTS)) < 0.3)
    weak = rng.random((TOKENS, LATENTS)) < leak
    x = np.where(strong, rng.uniform(1, 2, strong.shape), np.where(weak, rng.uniform(0.1, 0.5, strong.shape), 0))
    return Code(sparse.csr_array(x)), labels, np.arange(TOKENS) * DOCUMENTS // TOKENS


def naive_coherence(code: Code, labels: np.ndarray, text: np.ndarray, top: int = 10) -> np.ndarray:
    base = sum((labels == kind).mean() ** 2 for kind in set(labels))
    found = np.full((LATENTS, BINS + 1), np.nan)
    for j, x in enumerate(code.toarray().T):
        order = [t for t in np.argsort(-x, kind="stable") if x[t] > 0]
        for g, piece in enumerate([order, *reversed(np.array_split(order, BINS))]):
            seen: dict[int, int] = {}
            for t in piece:
                seen.setdefault(text[t], labels[t])
            chosen = list(seen.values())[: top if g == 0 else None]
            same = [a == b for i, a in enumerate(chosen) for b in chosen[:i]]
            found[j, g] = np.mean(same) - base if same else np.nan
    return found


def test_coherence_agrees_with_a_loop_over_pairs_of_documents():
    code, labels, document = sample(leak=0.1)
    assert coherence(choose(code, document), labels) == pytest.approx(naive_coherence(code, labels, document))


def test_the_lower_bins_show_what_the_top_hides():
    code, labels, document = sample(leak=0.3)
    rows = random_rows(LATENTS, 8, np.random.default_rng(0))
    found, _ = measure(rows, code, labels[:, None], document, document, draws=0, seed=0)
    assert found.top == pytest.approx(1 - 1 / KINDS, abs=0.01)
    assert found.bins[0] < 0.05 and found.bins[-1] > 0.7


def test_copies_of_a_document_count_once():
    x = np.zeros((12, 1))
    x[:10, 0], x[10:, 0] = 5, [1, 2]
    labels = np.array([0] * 10 + [1, 2])
    copies = np.array([7] * 10 + [8, 9])
    code = Code(x)
    base = np.square(np.bincount(labels) / 12).sum()
    assert coherence(choose(code, np.arange(12)), labels)[0, 0] == pytest.approx(1 - base)
    assert coherence(choose(code, copies), labels)[0, 0] == pytest.approx(0 - base)


def test_chance_agreement_is_zero_for_any_number_of_documents():
    rng = np.random.default_rng(0)
    code, _, document = sample()
    chosen = choose(code, document)
    draws = [coherence(chosen, rng.choice(3, TOKENS, p=[0.7, 0.2, 0.1]))[:, 0].mean() for _ in range(200)]
    assert np.mean(draws) == pytest.approx(0, abs=0.01)


def test_silhouettes_and_permuted_labels_stand_beside_the_purity():
    code, labels, document = sample()
    pure = random_rows(KINDS, 8, np.random.default_rng(1))[np.arange(LATENTS) % KINDS]
    rows = unit(pure + 0.05 * np.random.default_rng(2).standard_normal((LATENTS, 8)))
    wide = np.stack([labels, np.random.default_rng(3).integers(0, 2, TOKENS)], axis=1)
    real, permuted = measure(rows, code, labels[:, None], document, document, draws=5, seed=0)
    assert real.decoder == pytest.approx(silhouette_score(rows, np.arange(LATENTS) % KINDS), abs=1e-5)
    assert real.activation > 0.05 > max(draw.activation for draw in permuted)
    assert max(abs(draw.top) for draw in permuted) < 0.1
    both, _ = measure(rows, code, wide, document, document, draws=0, seed=0)
    assert both.top == pytest.approx(real.top)
    found = summarise({"main": [real, real], "random_dictionary": [permuted[0]] * 2}, permuted=[permuted] * 2)
    assert found.value == pytest.approx(real.top) and found.nulls["permuted_labels"].n == 10
    above = found.also["silhouette_decoder_above_permuted_labels"]
    assert above == pytest.approx(real.decoder - np.mean([draw.decoder for draw in permuted]))


def test_a_token_without_a_label_is_no_token_of_that_variable():
    code, labels, document = sample(leak=0.3)
    rng = np.random.default_rng(5)
    rows, known = random_rows(LATENTS, 8, rng), rng.random(TOKENS) < 0.4
    other = rng.integers(0, 2, TOKENS)
    masked = np.stack([np.where(known, labels, -1), np.where(known, other, -1)], axis=1)
    found = measure(rows, code, masked, document, document, draws=2, seed=0)
    alone = measure(
        rows, Code(code.toarray()[known]), np.stack([labels, other], axis=1)[known], document[known], document[known],
        draws=2, seed=0,
    )  # fmt: skip
    assert found == alone
    assert found[0].top == pytest.approx(np.nanmean(naive_coherence(code[known], labels[known], document[known])[:, 0]))


def test_what_fires_where_no_label_is_speaks_for_none():
    """Latent 0 fires on unlabelled tokens alone: no purity, and no place among the groups of rows."""
    labels, document = np.repeat([[-1], [0], [1]], 20, axis=0), np.arange(60)
    x = np.zeros((60, 5))
    for j, fires in enumerate((slice(0, 20), slice(20, 40), slice(20, 40), slice(40, 60), slice(40, 60))):
        x[fires, j] = 1 + np.random.default_rng(j).random(20)
    rows = unit(np.array([[1.0, 1, 0], [1, 0.1, 0], [1, 0, 0], [0, 1, 0.1], [0, 1, 0]]))
    found, _ = measure(rows, Code(x), labels, document, document, draws=0, seed=0)
    assert found.top == pytest.approx(1 - 0.5)
    assert found.decoder == pytest.approx(silhouette_score(rows[1:], [0, 0, 1, 1]), abs=1e-5)


def test_a_silent_dictionary_has_no_purity():
    real, _ = measure(
        random_rows(3, 4, np.random.default_rng(0)), Code((20, 3), dtype=np.float64), np.zeros((20, 1), np.int64),
        np.arange(20), np.arange(20), draws=0, seed=0,
    )  # fmt: skip
    found = summarise({"main": [real] * 3})
    assert found.value is None and found.interval is None and found.not_run == UNDEFINED
    assert purity.choose(Code((20, 0), dtype=np.float64), np.arange(20)).latents == 0


def test_permuted_labels_of_a_silent_dictionary_are_no_number_that_json_lacks():
    real, permuted = measure(
        random_rows(3, 4, np.random.default_rng(0)), Code((20, 3), dtype=np.float64), np.arange(20)[:, None] % 2,
        np.arange(20), np.arange(20), draws=2, seed=0,
    )  # fmt: skip
    found = summarise({"main": [real] * 3, "random_dictionary": [real] * 3}, permuted=[permuted] * 3)
    assert "permuted_labels" not in found.nulls and found.nulls["random_dictionary"].mean is None
    assert found.nulls["random_dictionary"].note == "silhouette of tokens 0.000", "rows have none"
    json.dumps(found.model_dump(mode="json"), allow_nan=False)
