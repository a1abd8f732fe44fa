"""Causal attribution on a model whose readers are known: at a latent's sites the text depends on it, or on another."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from raysae.falsification import NULLS, decide
from raysae.falsification.intervals import draws_needed
from raysae.falsification.metrics import attributed, attribution, null_directions
from raysae.falsification.metrics.attribution import KEPT, Attribution, Probe, Scores
from raysae.falsification.metrics.dose_response import DOSES, effect, linear, r_squared, slope, specificity, symmetry
from raysae.falsification.metrics.null_directions import null_draws
from raysae.types import Outcome, Reason

M, D, GROUPS, SITES, RANKS = 60, 32, 4, 6, 14
W = torch.nn.functional.normalize(torch.randn(M, D, generator=torch.Generator().manual_seed(0)), dim=1)
OWNER = np.repeat(np.arange(M), SITES)
SCALE = torch.full((M,), 0.5)
RATES = np.full(M, 0.02)


def probe(causal: int, seed: int, tied: bool = True) -> Probe:
    """Sites of every latent. At those of the first `causal` ones the target reads the latent's own direction, at all
    others a direction of its own; the last group is a control. With `tied` false no site reads a latent."""
    generator = torch.Generator().manual_seed(seed)
    readers = 0.05 * torch.randn(len(OWNER), GROUPS, D, generator=generator)
    for site, latent in enumerate(OWNER):
        own = W[latent] if tied and latent < causal else torch.randn(D, generator=generator) / D**0.5
        readers[site, latent % (GROUPS - 1)] += 3 * own
    bias = torch.randn(len(OWNER), GROUPS, generator=generator)

    def score(sites: Tensor, delta: Tensor) -> Scores:
        value = logsigmoid(bias[sites][:, None] + torch.einsum("ned,ngd->neg", delta, readers[sites]))
        return Scores(value, value.argmax(dim=-1, keepdim=True))

    return Probe(score, OWNER, 1 + torch.rand(len(OWNER), generator=generator))


@cache
def measured(causal: int = 20, seed: int = 1, tied: bool = True, readers: Tensor | None = None) -> Attribution:
    fit, test = probe(causal, 10 * seed, tied), probe(causal, 10 * seed + 1, tied)
    nulls = null_draws(W, RATES, np.ones(M, dtype=bool), np.arange(M), seed)
    replacements = {"zero": torch.zeros(len(OWNER)), "mean": torch.full((len(OWNER),), 0.02)}
    replacements["resample"] = torch.rand(len(OWNER), generator=torch.Generator().manual_seed(seed))
    draws = {
        "matched_latents": 1 + KEPT,
        "random_direction": 1 + max(draws_needed(M, 5), 99),
        "shuffled_decoder": M - 1,
    }
    found = attribution.measure(fit, test, W, nulls, SCALE, replacements, readers, GROUPS - 1, draws)
    return Attribution(
        latent=np.arange(M),
        rate=RATES,
        variance=np.linspace(1, 2, M),
        sites=np.bincount(OWNER),
        off_support=np.full(M, 900),
        **found,
    )


@pytest.fixture(scope="module")
def planted() -> Attribution:
    return measured()


def test_every_number_is_that_of_a_loop_over_latents_and_doses(planted: Attribution) -> None:
    fit, test, one = probe(20, 10), probe(20, 11), planted.directions["latents"]

    def change(where: Probe, latent: int, step: Tensor) -> np.ndarray:
        """Scores under one edit minus those without it, by site and group."""
        sites = torch.tensor([site for site in range(len(OWNER)) if OWNER[site] == latent])
        edits = step.expand(len(sites), D)[:, None]
        return (where.score(sites, edits).value - where.score(sites, 0 * edits).value)[:, 0].double().numpy()

    for latent in (0, 3, 41):
        step = SCALE[latent] * W[latent]
        by_dose = {dose: change(fit, latent, dose * step).mean(axis=0) for dose in DOSES}
        slopes = sum(dose * by_dose[dose] for dose in DOSES) / sum(dose**2 for dose in DOSES)
        target = int(np.argmax(slopes[:-1]))
        assert (one.target[latent], one.fit_slope[latent]) == (target, pytest.approx(slopes[target], abs=1e-6))
        curve = [change(test, latent, dose * step)[:, target].mean() for dose in DOSES]
        assert one.curve[latent] == pytest.approx(curve, abs=1e-6)
        by_site = (change(test, latent, step) - change(test, latent, -step)) / 2
        assert one.mass[latent] == pytest.approx(np.abs(by_site).mean(axis=0), abs=1e-6)
        for name, value in (("zero", 0.0), ("mean", 0.02)):
            sites = np.flatnonzero(latent == OWNER)
            ablated = [
                change(test, latent, (value - test.activation[site]) * W[latent])[i, target]
                for i, site in enumerate(sites)
            ]
            assert planted.ablation[name][latent] == pytest.approx(np.mean(ablated), abs=1e-6)
        draw = null_draws(W, RATES, np.ones(M, dtype=bool), np.arange(M), 1)["shuffled_decoder"]
        null = []
        for row in range(1, M - 1):
            direction = SCALE[latent] * draw(np.array([latent]), row, row + 1)[0, 0]
            both = (change(test, latent, direction) - change(test, latent, -direction)) / 2
            null.append(both.mean(axis=0)[:-1].max())
        assert planted.nulls["shuffled_decoder"][latent] == pytest.approx(null[:KEPT], abs=1e-6)
        beaten_by = np.flatnonzero(np.array(null) >= effect(one.curve)[latent])
        expected = 5 / (beaten_by[4] + 1) if len(beaten_by) >= 5 else (1 + len(beaten_by)) / (1 + len(null))
        assert one.p["shuffled_decoder"][latent] == pytest.approx(expected)


def test_the_planted_latents_pass_and_the_inert_ones_and_every_null_do_not(planted: Attribution) -> None:
    judged = attributed.judge(planted, RANKS)
    assert judged.passes[:20].mean() >= 0.9 and judged.passes[20:].mean() <= 0.1
    assert set(judged.chosen.tolist()) <= set(range(20))
    for null in null_directions.NULLS:
        assert not attributed.judge(planted, RANKS, null).passes[20:].any()
        assert attributed.judge(planted, RANKS, null).passes.mean() < 0.1


def verdict(make_protocol: Any, main: list[Attribution], twin: list[Attribution]) -> tuple[Outcome, Reason | None]:
    protocol = make_protocol(
        criteria=["causal_attribution"], nulls=list(NULLS), mode="exploratory", attributed_latents=RANKS
    )
    metric = attributed.summarise({"main": main, "random_model": twin}, latents=RANKS, seed=0)
    found = decide(
        protocol,
        {"causal_attribution": metric},
        sealed_sha256=protocol.sha256,
        source_sha256=protocol.source_sha256,
    )
    row = found.criteria["causal_attribution"]
    return row.outcome, row.reason_code


def test_from_pushes_to_a_verdict(make_protocol: Any) -> None:
    causal = [measured(seed=seed) for seed in range(1, 6)]
    nowhere = [measured(seed=seed, tied=False) for seed in range(1, 6)]
    assert verdict(make_protocol, causal, nowhere) == (Outcome.GO, None)
    assert verdict(make_protocol, nowhere, nowhere) == (Outcome.NO_GO, None)
    few = [measured(seed=seed, causal=6) for seed in range(1, 6)]
    assert verdict(make_protocol, few, nowhere) == (Outcome.NO_GO, None)
    assert verdict(make_protocol, causal, causal) == (Outcome.INCONCLUSIVE, Reason.VOID)


def small(alive: int, causal: int, seed: int) -> Attribution:
    """An SAE of so few latents: all of its rows that are left when one stands in the latent's place are drawn."""
    rows = W[:alive]
    fit, test = (probe(causal, 10 * seed + split) for split in (0, 1))
    mine = fit.owner < alive
    fit, test = (
        Probe(
            lambda at, delta, score=one.score: score(at, delta), one.owner[mine], one.activation[torch.from_numpy(mine)]
        )
        for one in (fit, test)
    )
    found = attribution.measure(
        fit, test, rows, null_draws(rows, RATES[:alive], np.ones(alive, dtype=bool), np.arange(alive), seed),
        SCALE[:alive], {name: torch.zeros(len(fit.owner)) for name in ("zero", "mean", "resample")}, None, GROUPS - 1,
        {"matched_latents": 1 + KEPT, "random_direction": 100, "shuffled_decoder": alive - 1},
    )  # fmt: skip
    return Attribution(
        latent=np.arange(alive),
        rate=RATES[:alive],
        variance=np.linspace(1, 2, alive),
        sites=np.bincount(fit.owner),
        off_support=np.full(alive, 900),
        **found,
    )


@pytest.mark.parametrize(
    ("alive", "causal", "expected"),
    [
        (20, 20, (Outcome.INCONCLUSIVE, Reason.UNDERPOWERED)),  # the smallest p against 19 rows is 1 / 19
        (21, 21, (Outcome.GO, None)),
        (20, 6, (Outcome.NO_GO, None)),  # no rank among rows could make up for latents without an effect
        (8, 8, (Outcome.NO_GO, None)),  # nor for those that are not there
    ],
)
def test_no_latent_fails_for_want_of_rows_to_stand_out_among(
    make_protocol: Any, alive: int, causal: int, expected: tuple[Outcome, Reason | None]
) -> None:
    nowhere = [measured(seed=seed, tied=False) for seed in range(1, 6)]
    assert verdict(make_protocol, [small(alive, causal, seed) for seed in range(1, 6)], nowhere) == expected


def test_a_null_that_has_too_few_rows_to_stand_out_voids_as_one_with_enough(make_protocol: Any) -> None:
    causal = [measured(seed=seed) for seed in range(1, 6)]
    untrained = [small(20, 20, seed) for seed in range(1, 6)]
    assert verdict(make_protocol, causal, untrained) == (Outcome.INCONCLUSIVE, Reason.VOID)


def test_significance_is_corrected_over_all_alive_latents(planted: Attribution) -> None:
    one = planted.directions["latents"]
    lone = one._replace(p={**one.p, "random_direction": np.where(np.arange(M) == 2, 0.01, 1.0)})
    among_all = planted._replace(directions={**planted.directions, "latents": lone})
    assert not attributed.judge(among_all, RANKS).significant.any(), "0.01 is not below 0.05 / 60"
    alone = attributed.judge(attribution_of(among_all, [2]), RANKS)
    assert alone.significant.tolist() == [True]


def attribution_of(found: Attribution, rows: list[int]) -> Attribution:
    """Only these latents."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cut(inner) for key, inner in value.items()}
        return type(value)(*map(cut, value)) if hasattr(value, "_fields") else value[rows]

    return cut(found)


def test_ranges_put_together_are_the_whole_and_a_missing_latent_fails(planted: Attribution) -> None:
    again = attribution.join([attribution_of(planted, list(range(23))), attribution_of(planted, list(range(23, M)))])
    whole, parts = (attributed.summarise({"main": [found]}, latents=RANKS, seed=0) for found in (planted, again))
    assert whole == parts
    three = attributed.summarise({"main": [attribution_of(planted, [0, 1, 2])]}, latents=RANKS, seed=0)
    assert three.n == RANKS and three.value is not None and three.value <= 3 / RANKS


def test_no_latent_depends_on_which_others_are_asked_for() -> None:
    nulls = null_draws(W, RATES, np.ones(M, dtype=bool), np.array([4, 7, 9]), 3)
    for name, draw in nulls.items():
        together, alone = draw(np.arange(3), 1, 5), draw(np.array([1]), 1, 5)
        assert torch.equal(together[:, 1], alone[:, 0]), name
        assert torch.allclose(together.norm(dim=-1), torch.ones(4, 3), atol=1e-5)
    rows = nulls["shuffled_decoder"](np.array([0]), 0, M - 1)[:, 0]
    assert len({tuple(row.tolist()) for row in rows}) == M - 1, "a row came twice"
    assert not (rows == W[4]).all(dim=1).any(), "the latent's own row is no null"


def test_the_gradient_predicts_small_effects_and_the_row_space_holds_them() -> None:
    score = probe(20, 10).score
    readers = attribution.row_space(score, len(OWNER), D, GROUPS - 1)
    assert torch.allclose(readers.T @ readers, torch.eye(readers.shape[1]), atol=1e-5)
    found = measured(readers=W[:3].T.clone())
    assert found.row_effect.shape == (M,) and np.isfinite(found.row_effect).all()
    small = found.directions["latents"].curve
    by_gradient, by_dose = found.predicted, (small[:, 4] - small[:, 3]) / 0.5
    assert np.corrcoef(by_gradient, by_dose)[0, 1] > 0.99


def test_a_direction_that_no_reader_reads_is_dormant() -> None:
    e = torch.eye(4)
    sites, owner = torch.zeros(3).long(), np.zeros(3, dtype=np.int64)

    def score(at: Tensor, delta: Tensor) -> Scores:
        # The second axis is read only together with the first: at the unedited activation it has no derivative.
        value = delta[..., :1] + 8 * delta[..., 1:2] ** 3
        return Scores(value, torch.zeros((*value.shape[:2], 1)).long())

    readers = attribution.row_space(score, 3, 4, 1)
    assert readers.abs().round(decimals=4).tolist() == [[1.0], [0.0], [0.0], [0.0]]
    w = torch.nn.functional.normalize(e[:1] + e[1:2], dim=1)
    both = Probe(score, owner, torch.ones(len(sites)))
    found = attribution.measure(
        both, both, w, null_draws(w, np.ones(1), np.ones(1, dtype=bool), np.zeros(1, dtype=np.int64), 0),
        torch.ones(1), {"zero": torch.zeros(3)}, readers, 1,
        {"matched_latents": 0, "random_direction": 20, "shuffled_decoder": 0},
    )  # fmt: skip
    size = effect(found["directions"]["latents"].curve)
    assert abs(1 - found["row_effect"][0] / size[0]) > attributed.DORMANT
    assert found["directions"]["latents"].p["shuffled_decoder"].tolist() == [1.0]


def test_dose_response_by_hand() -> None:
    doses = np.array(DOSES)
    line, even, flat = 0.3 * doses, doses**2, np.zeros(8)
    saturated = np.minimum(doses, 0.1)
    curves = np.stack([line, even, flat, saturated])
    naive = sum(dose * value for dose, value in zip(DOSES, saturated, strict=True)) / sum(dose**2 for dose in DOSES)
    assert slope(curves) == pytest.approx([0.3, 0, 0, naive])
    assert effect(curves) == pytest.approx([0.3, 0, 0, 0.55])
    assert r_squared(curves)[:3] == pytest.approx([1, 0, 0])
    assert r_squared(curves)[3] == pytest.approx(np.corrcoef(doses, saturated)[0, 1] ** 2)
    assert symmetry(curves)[:3].tolist() == [1, 0, 0]
    odd, whole = (((saturated + sign * saturated[::-1]) ** 2).sum() for sign in (-1, 1))
    assert symmetry(curves)[3] == pytest.approx(odd / (odd + whole))
    assert linear(curves).tolist() == [True, False, False, True], "an effect that saturates is still one"
    mass = np.array([[3.0, 1.0], [0.0, 0.0], [1.0, 3.0]])
    assert specificity(mass, np.array([0, 0, 0])).tolist() == [0.75, 0.0, 0.25]
