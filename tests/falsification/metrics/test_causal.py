"""Interchange on a linear toy model whose circuit is known: variable a drives readout 0, variable b readout 1."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raysae.falsification import decide
from raysae.falsification.metrics import causal
from raysae.falsification.metrics.causal import Unit
from raysae.falsification.metrics.coherence import judge
from raysae.types import Outcome, Reason

VALUES, D = 5, 24
ROTATION = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(0)))[0]


def activations(tokens: Tensor) -> Tensor:
    """Tokens (a, b) -> x [n, D]: a one-hot in dimensions 0-4, b in 5-9, both rotated."""
    x = torch.zeros(len(tokens), D)
    rows = torch.arange(len(tokens))
    x[rows, tokens[:, 0]] = 1
    x[rows, VALUES + tokens[:, 1]] = 1
    return x @ ROTATION


def model(tokens: Tensor, positions: Tensor, delta: Tensor) -> Tensor:
    """Predicts a at position 0 and b at position 1, from the edited activation."""
    assert (positions == 1).all()
    x = (activations(tokens) + delta) @ ROTATION.T
    return torch.stack([x[:, :VALUES].argmax(1), x[:, VALUES : 2 * VALUES].argmax(1)], dim=1)


def encode(x: Tensor) -> Tensor:
    """The true dictionary, followed by latents that mean nothing."""
    clean = x @ ROTATION.T
    return torch.relu(torch.cat([clean[:, : 2 * VALUES], clean[:, 10:] + 0.3], dim=1))


@pytest.fixture
def pairs() -> dict[str, Any]:
    """Informative for a: both a and b differ between base and source."""
    generator = torch.Generator().manual_seed(1)
    base = torch.randint(0, VALUES, (300, 2), generator=generator)
    source = (base + torch.randint(1, VALUES, (300, 2), generator=generator)) % VALUES
    return {
        "tokens": base,
        "source": source,
        "x_base": activations(base),
        "x_source": activations(source),
        "expected": torch.stack([source[:, 0], base[:, 1]], dim=1),
    }


def success(pairs: dict[str, Any], delta: Tensor) -> float:
    n = len(delta)
    positions, readouts = torch.ones(n).long(), torch.tensor([0, 1]).expand(n, 2)
    return float(
        causal.joint_success(model, pairs["tokens"], positions, delta, readouts, pairs["expected"], batch=64)
        .float()
        .mean()
    )


def test_doing_nothing_and_copying_everything_both_score_zero(pairs: dict[str, Any]):
    assert success(pairs, torch.zeros(300, D)) == 0.0
    assert success(pairs, pairs["x_source"] - pairs["x_base"]) == 0.0


def test_the_true_latents_score_one_and_the_nulls_do_not(pairs: dict[str, Any]):
    fit = torch.randint(0, VALUES, (2000, 2), generator=torch.Generator().manual_seed(2))
    h_fit, names = encode(activations(fit)), [str(v) for v in range(VALUES)]
    chosen = causal.select_latents(h_fit, fit[:, 0].numpy(), names, per_value=1)
    assert chosen == {str(v): (v,) for v in range(VALUES)}
    latents = torch.tensor([j for taken in chosen.values() for j in taken])
    h = encode(pairs["x_base"]), encode(pairs["x_source"])
    delta = causal.interchange(*h, ROTATION, latents)
    assert success(pairs, delta) == 1.0
    assert success(pairs, causal.random_direction(delta, seed=3)) < 0.2
    rates = (h_fit > 0).double().mean(0).numpy()
    sets = causal.matched_sets(rates, latents.tolist(), draws=20, seed=4)
    assert max(success(pairs, causal.interchange(*h, ROTATION, torch.tensor(row))) for row in sets) == 0.0
    shuffled = np.random.default_rng(0).permutation(fit[:, 0].numpy())
    wrong = causal.select_latents(h_fit, shuffled, names, per_value=1)
    assert success(pairs, causal.interchange(*h, ROTATION, torch.tensor([j for t in wrong.values() for j in t]))) < 0.5


def test_both_supervised_ceilings_do_the_task(pairs: dict[str, Any]):
    fit = torch.randint(0, VALUES, (4000, 2), generator=torch.Generator().manual_seed(5))
    means = causal.class_means(activations(fit), fit[:, 0], VALUES)
    assert success(pairs, means[pairs["source"][:, 0]] - means[pairs["tokens"][:, 0]]) == 1.0
    assert success(pairs, causal.class_subspace(pairs["x_base"], pairs["x_source"], means)) == 1.0


def test_class_means_skip_missing_labels_and_fill_missing_values():
    x, values = torch.tensor([[1.0], [3.0], [100.0]]), torch.tensor([0, 0, -1])
    assert causal.class_means(x, values, 2).tolist() == [[2.0], [2.0]]


def test_interchange_is_the_sum_over_latents():
    torch.manual_seed(0)
    h_base, h_source, W_dec = torch.rand(7, 9), torch.rand(7, 9), torch.randn(9, 4)
    found = causal.interchange(h_base, h_source, W_dec, torch.tensor([2, 5]))
    naive = torch.stack([(h_source[:, [j]] - h_base[:, [j]]) * W_dec[j] for j in (2, 5)]).sum(0)
    assert torch.allclose(found, naive, atol=1e-6)


def test_a_random_direction_keeps_every_norm_and_follows_its_seed():
    delta = torch.randn(30, 6) * torch.arange(30)[:, None]
    found = causal.random_direction(delta, seed=1)
    assert torch.allclose(found.norm(dim=1), delta.norm(dim=1), atol=1e-4)
    assert torch.equal(found, causal.random_direction(delta, seed=1))
    assert not torch.equal(found, causal.random_direction(delta, seed=2))


def test_latents_are_disjoint_and_dead_ones_are_never_chosen():
    rng = np.random.default_rng(0)
    values = rng.integers(-1, 3, 3000)
    one_hot = values[:, None] == np.arange(3)
    latents = torch.tensor(
        np.concatenate([one_hot, one_hot * (rng.random((3000, 3)) < 0.7), np.zeros((3000, 4))], axis=1)
    ).float()
    chosen = causal.select_latents(latents, values, ["x", "y", "z"], per_value=2)
    assert chosen == {"x": (0, 3), "y": (1, 4), "z": (2, 5)}
    alive = torch.arange(10) != 0
    assert causal.select_latents(latents, values, ["x", "y", "z"], per_value=1, alive=alive)["x"] == (3,)
    assert causal.select_latents(torch.zeros(3000, 4), values, ["x", "y", "z"], per_value=1) == {
        "x": (),
        "y": (),
        "z": (),
    }


def test_a_value_without_a_latent_of_its_own_takes_nobody_elses():
    values = np.repeat(np.arange(3), 40)
    own = torch.from_numpy((values[:, None] == [0, 1]).astype(np.float32))
    other = torch.zeros(120, 1)
    other[50:] = 1.0  # on for value 2 and for most of value 1
    latents = torch.cat([own, other], dim=1)
    assert causal.select_latents(latents, values, ["a", "b", "c"], 1) == {"a": (0,), "b": (1,), "c": (2,)}
    kept = causal.select_latents(latents, values, ["a", "b", "c"], 1, least_f1=0.9)
    assert kept == {"a": (0,), "b": (1,), "c": ()}
    assert causal.matched_sets(np.full(3, 0.3), [], 4, seed=0).shape == (4, 0)


def test_matched_sets_have_the_rates_of_the_chosen_and_none_of_them():
    rng = np.random.default_rng(1)
    rates = rng.uniform(0.01, 0.3, 400)
    rates[::7] = 0
    chosen = [1, 2, 3, 4]
    sets = causal.matched_sets(rates, chosen, draws=100, seed=2)
    assert (np.abs(rates[sets] / rates[chosen] - 1) <= 0.2).all()
    assert not set(sets.ravel()) & set(chosen)
    assert all(len(set(row)) == 4 for row in sets)
    assert (sets == causal.matched_sets(rates, chosen, draws=100, seed=2)).all()
    assert len({tuple(row) for row in sets}) > 90


def test_matched_sets_take_one_of_the_nearest_then_dead_latents_and_refuse_when_none_are_left():
    rates = np.array([0.5, *np.linspace(0.1, 0.29, 50), 0.0, 0.5])
    taken = causal.matched_sets(rates, [0], draws=999, seed=0).ravel()
    assert set(taken.tolist()) == {52, *range(12, 51)}, "the one that is as near as asked and 39 of the nearest"
    three = causal.matched_sets(rates[:-1], [0, 49, 50], draws=200, seed=0)
    assert set(three[:, 0].tolist()) <= set(range(37, 49)), "eight are enough in the place of each of three"
    rates = np.array([0.5, 0.01, 0.1, 0.0])
    assert sorted(causal.matched_sets(rates, [0, 1], draws=1, seed=0)[0]) == [2, 3]
    with pytest.raises(ValueError, match="1 other latents for a matched set of 3"):
        causal.matched_sets(rates, [0, 1, 2], draws=1, seed=0)


def test_matched_sets_move_as_much_as_the_chosen():
    rates, sizes = np.full(200, 0.1), np.full(200, 0.02)
    sizes[:30] = np.linspace(0.9, 1.1, 30)  # the others fire as often and are fifty times weaker
    sets = causal.matched_sets(rates, [0, 1], draws=100, seed=2, sizes=sizes)
    assert sets.max() < 30 and len(set(sets.ravel().tolist())) > 20
    assert causal.matched_sets(rates, [0, 1], draws=100, seed=2).max() >= 30
    rates[4:30] = 0.001  # where few have both, they are among those that are drawn from
    few = causal.matched_sets(rates, [0, 1], draws=100, seed=2, sizes=sizes)
    assert {2, 3} < set(few.ravel().tolist()) and len({tuple(sorted(row)) for row in few}) >= 40


def test_a_set_drawn_again_is_the_same_set_in_any_order():
    sets = np.array([[3, 1], [2, 5], [1, 3], [2, 5]])
    found, place = causal.different(sets)
    assert found.tolist() == [[1, 3], [2, 5]] and place.tolist() == [0, 1, 0, 1]


def test_a_step_is_what_an_exchange_of_one_latent_adds():
    torch.manual_seed(0)
    h_base, h_source, W_dec = torch.rand(7, 9), torch.rand(7, 9), torch.randn(9, 4)
    alone = [causal.interchange(h_base, h_source, W_dec, torch.tensor([j])) for j in range(9)]
    naive = [float(delta.square().sum(dim=1).mean().sqrt()) for delta in alone]
    assert causal.step_sizes(h_base, h_source, W_dec) == pytest.approx(naive, rel=1e-5)


def test_every_readout_must_be_right_and_padding_does_not_count():
    predictions = torch.tensor([[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3]])
    positions = torch.tensor([[0, 2], [0, 2], [1, -1], [-1, -1]])
    expected = torch.tensor([[1, 3], [1, 9], [2, 0], [0, 0]])
    assert causal.read_out(predictions, positions, expected).tolist() == [True, False, True, False]


def unit(u: int, j: float, ceiling: float = 0.95, null: float = 0.04, **more: Any) -> Unit:
    matched = tuple(np.random.default_rng(u).uniform(0, null, 200))
    return Unit("total", str(u), 200, j, ceiling, matched, null / 2)._replace(**more)


def seeds(count: int = 5, n: int = 20, **kinds: Any) -> list[list[Unit]]:
    return [[unit(u, **kinds) for u in range(n)] for _ in range(count)]


def test_latents_near_the_ceiling_are_coherent_and_every_null_is_not():
    arms = {"main": seeds(j=0.9), "random_model": seeds(j=0.0, ceiling=0.01), "permuted_labels": seeds(j=0.05)}
    found = causal.summarise(arms, pairs=200)
    assert found.value == 1.0 and found.n == 20 and found.gates[0].passed
    assert {name: null.mean for name, null in found.nulls.items()} == {
        "random_model": 0.0,
        "permuted_labels": 0.0,
        "matched_latents": 0.0,
        "random_direction": 0.0,
    }
    assert "no edit of this model does the task" in found.nulls["random_model"].note
    assert "no edit" not in found.nulls["permuted_labels"].note


def test_one_lucky_pair_on_a_broken_model_is_not_coherence():
    lucky = [[unit(u, 0.01, ceiling=0.01, matched=(0.0,) * 200) for u in range(20)]] * 5
    assert causal.summarise({"main": lucky}, pairs=200).value == 0.0
    assert causal.summarise({"main": lucky}, pairs=200).also["untestable_units"] == 20


def test_the_correction_is_linear_between_null_and_ceiling():
    matched = np.tile(np.linspace(0, 0.1, 201), (3, 1))
    null = np.quantile(matched[0], 0.95, method="higher")
    ceiling = np.full(3, 0.9)
    found = judge(np.array([0.9, null, null + 0.8 * (0.9 - null)]), matched, ceiling)
    assert found.corrected == pytest.approx([1.0, 0.0, 0.8])
    assert found.coherent.tolist() == [True, False, True]


def test_a_unit_must_beat_the_matched_latents_significantly():
    few = tuple([0.0] * 9)  # with 9 draws the smallest p is 0.1
    found = causal.summarise({"main": [[unit(u, 0.9, matched=few) for u in range(20)]] * 5}, pairs=200)
    assert found.value == 0.0


def test_few_different_sets_are_as_few_draws_however_often_each_was_taken():
    found = [causal.summarise({"main": seeds(j=0.9, sets=sets)}, pairs=200) for sets in (None, 200, 19, 18, 8)]
    assert [metric.value for metric in found] == [1.0, 1.0, 1.0, 0.0, 0.0], "1 in 20 is 0.05, 1 in 19 is not"
    one_of_eight = unit(0, 0.9, matched=(*[0.0] * 175, *[0.95] * 25))
    alone = judge(*(np.array([x]) for x in (0.9, one_of_eight.matched, 0.95)), np.array([8]))
    assert not alone.coherent.any()


def test_sets_that_were_not_drawn_count_against_their_unit_and_not_against_the_others():
    hopeless = unit(0, 0.5, matched=(0.0, 0.0))
    found = causal.summarise({"main": [[hopeless, *(unit(u, 0.9) for u in range(1, 20))]] * 5}, pairs=200)
    assert found.value == 0.95
    few = [[unit(u, 0.9, matched=(0.0, 0.0)) for u in range(10)] + [unit(u, 0.9) for u in range(10, 20)]] * 5
    assert causal.summarise({"main": few}, pairs=200).value == 0.5, "two sets are enough for nobody"


def test_an_effect_that_needs_what_nothing_reads_is_an_illusion_and_does_not_count():
    honest, illusion = unit(0, 0.9, readable=0.6), unit(1, 0.9, readable=0.4)
    found = causal.summarise({"main": [[honest, illusion]] * 5}, pairs=200)
    assert found.value == 0.5 and found.per_seed == (0.5,) * 5
    assert found.also["illusions"] == 1 and found.ceiling == 1.0, "the supervised edit is not what was looked through"
    assert [row["coherent"] for row in causal.table({"main": [[honest, illusion]] * 5})] == [True, False]
    assert "illusions" not in causal.summarise({"main": seeds(j=0.9)}, pairs=200).also


def test_cutting_the_draws_of_a_hopeless_unit_makes_nobody_else_less_significant():
    near = [unit(u, 0.95, ceiling=1.0, matched=(*[0.0] * 195, *[0.97] * 5)) for u in range(7)]  # p = 6 / 201
    whole = [*near, *(unit(u, 0.5, ceiling=1.0, matched=(0.0,) * 200) for u in range(7, 75))]
    cut = [*near, *(unit(u, 0.5, ceiling=1.0, matched=(0.0, 0.0)) for u in range(7, 75))]
    found = [causal.summarise({"main": [units] * 5}, pairs=200).value for units in (whole, cut)]
    assert found == [pytest.approx(7 / 75)] * 2


def test_matched_sets_and_directions_that_do_the_task_show_as_nulls():
    found = causal.summarise({"main": seeds(j=0.95, matched=(0.9,) * 200, random_direction=0.9)}, pairs=200)
    assert found.value == 1.0, "corrected by sets that all reach 0.9, J is all of what is left"
    assert found.nulls["matched_latents"].mean == found.nulls["random_direction"].mean == 1.0
    half = causal.summarise({"main": seeds(j=0.95, matched=(0.9, 0.0) * 100)}, pairs=200).nulls["matched_latents"]
    assert half.mean == 0.5 and half.p95 == 1.0


def test_latents_no_better_than_the_matched_ones_are_not_coherent():
    as_good = seeds(j=0.9, matched=(0.9,) * 200)
    assert causal.summarise({"main": as_good}, pairs=200).value == 0.0


def test_a_unit_counts_only_if_most_seeds_agree():
    good, bad = seeds(1, j=0.9)[0], seeds(1, j=0.1)[0]
    mixed = [good, good, good, good, [bad[0], *good[1:]]]
    assert causal.summarise({"main": mixed}, pairs=200).value == 1.0
    assert causal.summarise({"main": [[bad[0], *good[1:]], *mixed[1:]]}, pairs=200).value == 0.95


def test_too_few_pairs_fail_a_gate_and_other_units_are_an_error():
    few = [[unit(0, 0.9, pairs=150), unit(1, 0.9)]]
    gate = causal.summarise({"main": few}, pairs=200).gates[0]
    assert not gate.passed and gate.detail == "total=0 has 150 informative pairs, registered are 200"
    with pytest.raises(ValueError, match="different units"):
        causal.summarise({"main": seeds(j=0.9), "random_model": seeds(n=19, j=0.0)}, pairs=200)
    nothing = causal.summarise({"main": []}, pairs=200)
    assert nothing.value is None and nothing.not_run


def test_from_units_to_a_verdict(make_protocol: Any):
    protocol = make_protocol(criteria=["causal_interchange"])

    def outcome(**main: Any) -> tuple[Outcome, Reason | None]:
        nothing = {"random_model": seeds(n=60, j=0.0, ceiling=0.0), "permuted_labels": seeds(n=60, j=0.0)}
        arms = {"main": seeds(n=60, **main), **nothing}
        metrics = {"causal_interchange": causal.summarise(arms, pairs=200)}
        row = decide(protocol, metrics, sealed_sha256=protocol.sha256, source_sha256=protocol.source_sha256)
        return row.outcome, row.criteria["causal_interchange"].reason_code

    assert outcome(j=0.9) == (Outcome.GO, None)
    assert outcome(j=0.4) == (Outcome.NO_GO, None)
    assert outcome(j=0.9, random_direction=0.9) == (Outcome.INCONCLUSIVE, Reason.VOID)


def test_the_table_has_a_row_per_unit_with_every_null():
    arms = {"main": [[unit(0, 0.9), unit(1, 0.1, ceiling=0.02)]] * 2, "random_model": seeds(2, 2, j=0.01)}
    first, second = causal.table(arms)
    assert first["coherent"] and not second["coherent"] and second["corrected"] is None
    assert (first["random_model"], first["permuted_labels"], first["pairs"]) == (pytest.approx(0.01), None, 200)
    assert set(first) == {
        "variable", "value", "pairs", "latents", "ceiling", "matched_mean", "matched_p95", "random_direction",
        "random_model", "permuted_labels", "corrected", "coherent",
    }  # fmt: skip
    assert causal.table({"main": []}) == []
