"""Planted cheats on sparsity, redundancy, stability and transfer: metric and decision end to end (SCIENCE 9)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raysae.falsification import CRITERIA, NULLS, decide
from raysae.falsification.metrics import primitives, redundancy, sparsity, stability, transfer
from raysae.falsification.metrics.codes import Code
from raysae.falsification.metrics.dictionaries import Dictionary, Origin, dictionary, random_rows, unit
from raysae.falsification.metrics.redundancy import Pair, Redundancy
from raysae.falsification.metrics.transfer import FLOORS, Transfer
from raysae.falsification.simulation.dictionaries import passing
from raysae.saes import SparseAutoencoder, build, tied_dictionary
from raysae.training import SAETrainer
from raysae.training.losses import decorrelation
from raysae.types import CriterionVerdict, Metric, Outcome, Reason
from raysae.types.learning import LossConfig, TrainConfig

from .metrics.geometry import random_code, trained

D, M, TOKENS, DOCUMENTS = 16, 64, 2000, 100
BOOT = {"bootstrap": 300, "seed": 0}
UNSURE = Outcome.INCONCLUSIVE


@pytest.fixture
def verdict(make_protocol: Callable[..., Any]) -> Callable[[Metric], CriterionVerdict]:
    def judge(metric: Metric) -> CriterionVerdict:
        name = metric.name
        protocol = make_protocol(criteria=[name], nulls=list(NULLS), seeds=CRITERIA[name].min_seeds)
        sealed = {"sealed_sha256": protocol.sha256, "source_sha256": protocol.source_sha256}
        return decide(protocol, {name: metric}, **sealed).criteria[name]

    return judge


def activations(seed: int, n: int = TOKENS, factors: int = 24) -> Tensor:
    """Sparse sums of fixed directions."""
    rng = np.random.default_rng(seed)
    on = (rng.random((n, factors)) < 0.08) * rng.uniform(1, 1.2, (n, factors))
    x = on @ random_rows(factors, D, np.random.default_rng(0)) + 0.01 * rng.standard_normal((n, D))
    return torch.tensor(x, dtype=torch.float32)


def measured(sae: SparseAutoencoder, x: Tensor, start: str) -> Redundancy:
    latents, x_hat = sae(x)
    alive = sparsity.alive_latents(latents, 1e-3)
    found = dictionary(sae.W_dec, latents, alive, Origin(start, start, start))
    return Redundancy(
        geometric=redundancy.geometric(found.rows, seed=0),
        functional=redundancy.functional(found.code),
        alive=int(alive.sum()),
        l0=float((latents != 0).sum(1).double().mean()),
        fvu=float((x - x_hat).square().sum() / (x - x.mean(0)).square().sum()),
        start=start,
    )


def pairs(of: Callable[[int, Tensor, SparseAutoencoder], SparseAutoencoder]) -> list[Pair]:
    """For five seeds: a dictionary in which every direction has a near copy, and what `of` makes of it."""
    found = []
    for seed in range(5):
        x, rng = activations(seed), np.random.default_rng(seed)
        half = random_rows(M // 2, D, rng)
        rows = np.concatenate([half, unit(half + 0.05 * rng.standard_normal(half.shape))]).astype(np.float32)
        plain = tied_dictionary(torch.from_numpy(rows), build("batch_topk", D, M, 4, seed), 4.0, x)
        found.append(Pair(*(measured(sae.requires_grad_(False), x, f"s{seed}") for sae in (plain, of(seed, x, plain)))))
    return found


def plus_minus(seed: int, x: Tensor, plain: SparseAutoencoder) -> SparseAutoencoder:
    """m/2 copies of v and of -v."""
    v = torch.from_numpy(random_rows(1, D, np.random.default_rng(seed)))
    return tied_dictionary(torch.cat([v.expand(M // 2, D), -v.expand(M // 2, D)]), plain, 4.0, x)


def mostly_dead(seed: int, x: Tensor, plain: SparseAutoencoder) -> SparseAutoencoder:
    """The six latents that are least like one another stay; all others are put to sleep."""
    rows = plain.W_dec.detach()
    kept = [0]
    while len(kept) < 6:
        kept.append(int((rows @ rows[kept].T).abs().amax(1).argmin()))
    sae = tied_dictionary(rows, plain, 4.0, x).requires_grad_(False)
    asleep = torch.ones(M, dtype=torch.bool)
    asleep[kept] = False
    sae.b_enc[asleep] = -1e3
    return sae


def test_dead_latents_do_not_buy_sparsity(verdict: Callable[[Metric], CriterionVerdict]):
    """(a) 90 % of the latents are dead, the others fire on a third of all tokens: 97 % zeros over all latents."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.rand(TOKENS, 200, generator=generator) * (torch.rand(TOKENS, 200, generator=generator) < 0.33)
    latents[:, 20:] = 0
    columns = sparsity.document_columns(
        latents, sparsity.alive_latents(latents, 1e-3), torch.arange(TOKENS) * DOCUMENTS // TOKENS, DOCUMENTS
    )
    metric = sparsity.summarise({"main": [columns] * 5}, l0_cap=8.0)
    assert metric.also["zero_fraction_all"] is not None and metric.also["zero_fraction_all"] > 0.95
    assert verdict(metric).outcome is Outcome.NO_GO


def test_dead_latents_do_not_buy_decorrelation(verdict: Callable[[Metric], CriterionVerdict]):
    """(a) What no longer fires repeats nothing."""
    metric = redundancy.summarise({"main": pairs(mostly_dead)})
    assert metric.value is not None and metric.value > 0.9
    found = verdict(metric)
    assert (found.outcome, found.reason_code) == (UNSURE, Reason.GATE_FAILED) and "same alive" in found.reason


def test_duplicates_in_the_baseline_are_no_reduction(verdict: Callable[[Metric], CriterionVerdict]):
    """(b) The SAE without the term is padded with copies, so that any other looks better."""

    def padded(pair: Pair) -> Pair:
        return Pair(pair.plain._replace(geometric=0.5, functional=0.9, alive=2 * pair.plain.alive), pair.plain)

    honest = pairs(lambda seed, x, plain: plain)
    assert verdict(redundancy.summarise({"main": honest})).outcome is Outcome.NO_GO
    found = verdict(redundancy.summarise({"main": [padded(pair) for pair in honest]}))
    assert (found.outcome, found.reason_code) == (UNSURE, Reason.GATE_FAILED) and "same alive" in found.reason


def judge_stability(seeds: Sequence[Dictionary], nulls: Sequence[Dictionary]) -> Metric:
    whole = stability.compare_all(seeds)
    null = primitives.find(nulls)
    arms = {"main": primitives.find(seeds, passing), "random_model": null, "frozen_decoder": null}
    gates = stability.independent(seeds, whole)
    return primitives.summarise(arms, seeds=10, gates=gates, whole=stability.summarise({"main": whole}).value, **BOOT)


def independent_seeds(stable: int = M, copies: int = 1) -> list[Dictionary]:
    """Ten trainings that share `stable` latents, each present `copies` times, and nothing else."""
    rng = np.random.default_rng(0)
    shared = random_rows(stable, D, rng).repeat(copies, axis=0)
    fires = random_code(rng, TOKENS, stable).toarray().repeat(copies, axis=1)
    found = []
    for seed in range(10):
        own = np.random.default_rng(50 + seed)
        rows = np.concatenate([shared, random_rows(M - len(shared), D, own)])
        code = Code(np.concatenate([fires, random_code(own, TOKENS, M - len(shared)).toarray()], axis=1))
        found.append(trained(seed, rows, code, noise=0.05, firing_noise=0.02))
    return found


def test_what_is_found_again_by_independent_seeds_is_go(verdict: Callable[[Metric], CriterionVerdict]):
    """The positive control of the next two."""
    assert verdict(judge_stability(independent_seeds(), independent_seeds(0))).outcome is Outcome.GO


def test_one_stable_latent_in_many_copies_is_one_primitive(verdict: Callable[[Metric], CriterionVerdict]):
    """(b) Nine stable latents, seven times each."""
    found = verdict(judge_stability(independent_seeds(9, copies=7), independent_seeds(0)))
    assert (found.outcome, found.reason_code) == (UNSURE, Reason.GATE_FAILED)
    assert "primitives: 9 selected" in found.reason


def sae_after(steps: int, init: int, order: int) -> SparseAutoencoder:
    config = TrainConfig(steps=steps, batch_tokens=128, warmup_steps=4, shards=1, workers=1)
    trainer = SAETrainer(build("batch_topk", D, M, 4, init), LossConfig(), config, 4, 1.0)
    for step in range(steps):
        trainer.step([activations(10_000 * (order + 1) + step, n=128)], lambda flat: None)
    trainer.sae.threshold.fill_(0.2)
    return trainer.sae


@pytest.mark.parametrize("shared", [True, False])
def test_a_shared_initialisation_is_void(verdict: Callable[[Metric], CriterionVerdict], shared: bool):
    """(e) Ten short trainings on their own data each. With one start they agree on everything, and even where the
    fingerprints lie, the numbering of the latents and the decoders at the start give them away."""
    x, seeds = activations(1), []
    for seed in range(10):
        init = 0 if shared else seed
        sae = sae_after(10, init, seed)
        start = build("batch_topk", D, M, 4, init).W_dec.detach()
        with torch.no_grad():
            latents = sae.encode(x)
        alive = sparsity.alive_latents(latents, 1e-3)
        seeds.append(dictionary(sae.W_dec, latents, alive, Origin(f"i{seed}", f"o{seed}", f"d{seed}"), start))
    metric = judge_stability(seeds, independent_seeds(0))
    found = verdict(metric)
    failed = {gate.name for gate in metric.gates if gate.failure is Reason.VOID and not gate.passed}
    if shared:
        assert metric.also["pw_mcc"] is not None and metric.also["pw_mcc"] > 0.9
        assert (found.outcome, found.reason_code) == (UNSURE, Reason.VOID)
        assert failed == {"own numbering", "own start"}
        honest = [one._replace(origin=Origin("i", one.origin.order, one.origin.shard)) for one in seeds]
        assert "own initialisation" in verdict(judge_stability(honest, independent_seeds(0))).reason
    else:
        assert failed == set() and found.reason_code is not Reason.VOID


def test_transfer_between_two_null_saes_is_undefined(verdict: Callable[[Metric], CriterionVerdict]):
    """(d) Score: variance explained per document of B, by random dictionaries with thresholds from A or from B."""
    b = activations(2)
    document = torch.arange(TOKENS) * DOCUMENTS // TOKENS

    def explained(fitted_on: int, seed: int) -> np.ndarray:
        rows = torch.from_numpy(random_rows(M, D, np.random.default_rng(seed)))
        like = build("batch_topk", D, M, 4, seed)
        with torch.no_grad():
            x_hat = tied_dictionary(rows, like, 4.0, activations(fitted_on))(b).reconstruction
        lost = torch.bincount(document, weights=(b - x_hat).square().sum(1).double())
        return (1 - lost / torch.bincount(document, weights=b.square().sum(1).double())).numpy()

    def arm(fitted_on: int, first: int) -> np.ndarray:
        return np.stack([explained(fitted_on, first + seed) for seed in range(5)])

    floors = {name: arm(2, 100 * i) for i, name in enumerate(FLOORS, 1)}
    metric = transfer.summarise({"main": Transfer(arm(3, 0), arm(2, 0), floors)}, **BOOT)
    assert metric.also["raw_ratio"] is not None and metric.also["raw_ratio"] > 0.9
    found = verdict(metric)
    assert (found.outcome, found.reason_code) == (UNSURE, Reason.GATE_FAILED)
    assert "above the null" in found.reason


def test_plus_and_minus_one_direction_fool_the_literal_term_and_not_the_verdict(
    verdict: Callable[[Metric], CriterionVerdict],
):
    """(g) m/2 copies of v and of -v have the least the literal term can give, and can say one thing about x."""
    cheat = plus_minus(0, activations(0), build("batch_topk", D, M, 4, 0)).W_dec.detach()
    honest = torch.from_numpy(random_rows(M, D, np.random.default_rng(1)))
    assert float(decorrelation(cheat, form="literal")[0]) == pytest.approx(-M / 2, abs=1e-3)
    assert decorrelation(cheat)[0] > 100 * decorrelation(honest)[0]
    found = pairs(plus_minus)
    judged = verdict(redundancy.summarise({"main": found}))
    assert (judged.outcome, judged.reason_code) == (UNSURE, Reason.GATE_FAILED) and "FVU kept" in judged.reason
    excused = [Pair(pair.plain, pair.plain._replace(geometric=pair.decorrelated.geometric)) for pair in found]
    assert verdict(redundancy.summarise({"main": excused})).outcome is Outcome.NO_GO
