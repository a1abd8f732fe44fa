from itertools import combinations

import numpy as np
import pytest
import torch

from raysae.falsification.metrics import primitives
from raysae.falsification.metrics.dictionaries import Dictionary, Origin, dictionary, match_rows, random_rows
from raysae.falsification.metrics.primitives import Primitives, confirm, find, select
from raysae.falsification.metrics.screening import Screen, own_tokens
from raysae.falsification.metrics.stability import compare, compare_all, independent, pw_mcc, summarise
from raysae.falsification.simulation.dictionaries import passing
from raysae.types import Gate, Reason

from .geometry import null_dictionary, random_code, trained

M, D, TOKENS = 80, 32, 1500


def seeds_of(share: float = 1.0, count: int = 10, **more) -> list[Dictionary]:
    rng = np.random.default_rng(5)
    rows, code = random_rows(M, D, rng), random_code(rng, TOKENS, M)
    return [trained(seed, rows, code, share=share, **more) for seed in range(count)]


def nulls(count: int = 10) -> list[Dictionary]:
    return [null_dictionary(seed, M, D, TOKENS) for seed in range(count)]


@pytest.mark.parametrize(
    ("expansion", "d", "expected"),
    [(4, 16, 0.52), (4, 32, 0.41), (4, 64, 0.33), (4, 128, 0.25), (8, 16, 0.58), (8, 32, 0.46), (8, 64, 0.35)],
)
def test_random_dictionaries_reach_the_pw_mcc_of_the_specification(expansion: int, d: int, expected: float):
    rng = np.random.default_rng(d)
    assert pw_mcc(random_rows(expansion * d, d, rng), random_rows(expansion * d, d, rng)) == pytest.approx(
        expected, abs=0.02
    )


def test_two_dictionaries_compare_as_a_loop_over_their_matches_says():
    a, b = seeds_of(share=0.6)[:2]
    found, matched = compare(a, b), match_rows(a.rows, b.rows)
    cosine = [float(a.rows[i] @ b.rows[j]) for i, j in zip(matched.a, matched.b, strict=True)]
    energy_a, energy_b = (np.square(one.code.toarray()).mean(0) for one in (a, b))
    assert found.cosine == pytest.approx(np.mean(cosine), abs=1e-6)
    assert found.same == np.mean(np.array(cosine) > 0.7)
    weighted = [np.average(cosine, weights=energy_a[matched.a]), np.average(cosine, weights=energy_b[matched.b])]
    assert found.energy == pytest.approx(np.mean(weighted), abs=1e-6)
    assert 0.3 < found.activation < 0.6 and found.fixed < 6


def test_a_latent_without_a_partner_counts_as_found_nowhere():
    a, b = seeds_of(noise=0.0, firing_noise=0.0)[:2]
    few = b._replace(rows=b.rows[:20], number=b.number[:20], code=b.code[:, :20])
    assert compare(a, b).cosine == pytest.approx(1, abs=1e-5)
    found = compare(a, few)
    assert (found.cosine, found.activation) == (pytest.approx(0.25, abs=1e-5), pytest.approx(0.25, abs=1e-5))
    assert compare(few, a) == pytest.approx(found)


def test_the_metric_is_corrected_for_each_null():
    arms = {"main": compare_all(seeds_of(share=0.5, count=5)), "random_dictionary": compare_all(nulls(5))}
    found = summarise(arms)
    theta, null = found.value, found.nulls["random_dictionary"].mean
    assert theta is not None and null is not None and found.interval is not None
    assert null == pytest.approx(0.39, abs=0.02) and theta > 0.5
    assert found.also["cosine_above_random_dictionary"] == pytest.approx((theta - null) / (1 - null))
    pairs = [compare(a, b).cosine for a, b in combinations(seeds_of(share=0.5, count=5), 2)]
    assert theta == pytest.approx(np.mean(pairs))
    assert found.n == found.seeds == 5


def test_two_seeds_have_a_number_and_no_interval():
    found = summarise({"main": compare_all(seeds_of(count=2))})
    assert found.value is not None and found.interval is None and found.not_run


def failures(seeds: list[Dictionary]) -> dict[str, Reason]:
    return {gate.name: gate.failure for gate in independent(seeds, compare_all(seeds)) if not gate.passed}


def test_independent_seeds_pass_every_gate_of_independence():
    assert failures(seeds_of(count=4)) == {} == failures(nulls(4))


def test_a_shared_initialisation_is_seen_by_its_fingerprint_its_numbering_and_its_start():
    seeds = seeds_of(count=4)
    same_print = [one._replace(origin=one.origin._replace(init="x")) for one in seeds]
    assert failures(same_print) == {"own initialisation": Reason.VOID}
    rng = np.random.default_rng(0)
    rows, start = random_rows(M, D, rng), random_rows(M, D, rng)
    numbered = [one._replace(rows=trained(9, rows, one.code).rows) for one in seeds]
    assert failures(numbered) == {"own numbering": Reason.VOID}
    renumbered = [one._replace(start=start[np.random.default_rng(s).permutation(M)]) for s, one in enumerate(seeds)]
    assert failures(renumbered) == {"own start": Reason.VOID}


def test_a_shared_data_order_or_shard_makes_runs_less_independent_than_claimed():
    for field in ("order", "shard"):
        seeds = [one._replace(origin=one.origin._replace(**{field: "x"})) for one in seeds_of(count=3)]
        assert failures(seeds) == {"own data": Reason.GATE_FAILED}


@pytest.mark.parametrize(
    ("missing", "gate"), [("init", "own initialisation"), ("order", "own data"), ("shard", "own data")]
)
def test_what_training_left_no_fingerprint_of_is_not_taken_for_independent(missing: str, gate: str):
    first, *others = seeds_of(count=3)
    seeds = [first._replace(origin=first.origin._replace(**{missing: None})), *others]
    assert failures(seeds) == {gate: Reason.GATE_FAILED}
    (said,) = [one.detail for one in independent(seeds, compare_all(seeds)) if not one.passed]
    assert "of 1 it is not known" in said
    assert failures([first._replace(start=None), *others]) == {"own start": Reason.GATE_FAILED}


def test_only_alive_latents_enter_a_dictionary():
    rows, alive = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2 == 0
    latents = torch.relu(torch.randn(9, 6, generator=torch.Generator().manual_seed(1)))
    found = dictionary(rows, latents, alive, Origin("i", "o", "s"), start=rows)
    assert found.number.tolist() == [0, 2, 4] and found.code.toarray() == pytest.approx(latents[:, ::2].numpy())
    assert np.linalg.norm(found.rows, axis=1) == pytest.approx(np.ones(3), abs=1e-6)
    assert found.start is not None and len(found.start) == 6
    assert found.energy == pytest.approx(latents[:, ::2].square().mean(0).numpy())


def naive_select(seeds: list[Dictionary]) -> set[frozenset[tuple[int, int]]]:
    """Without duplicates and contested members there is one cluster per latent that enough seeds share."""
    found = set()
    for s, one in enumerate(seeds):
        for i in range(len(one.rows)):
            members = {(s, i)}
            for t, other in enumerate(seeds):
                if t != s:
                    matched = match_rows(one.rows, other.rows)
                    j = int(matched.b[matched.a == i][0])
                    if one.rows[i] @ other.rows[j] > 0.9:
                        members.add((t, j))
            if len(members) >= 0.8 * len(seeds):
                found.add(frozenset(members))
    return found


def test_primitives_are_the_latents_that_enough_seeds_share():
    seeds = seeds_of(share=0.9)[:5]
    members = select(seeds)
    as_sets = {frozenset((s, int(i)) for s, i in enumerate(row) if i >= 0) for row in members}
    assert as_sets == naive_select(seeds) and 40 < len(members) < M
    assert ((members >= 0).sum(1) >= 4).all()
    for column in members.T:
        assert len(set(column[column >= 0])) == (column >= 0).sum()


def screened(failing: list[np.ndarray]) -> primitives.Test:
    """Every candidate passes but the latents named, by select seed."""

    def look(members: np.ndarray) -> tuple[Screen, ...]:
        found = []
        for bad, column in zip(failing, members.T, strict=True):
            latents = column[column >= 0]
            injected = np.isin(latents, bad).astype(float)
            found.append(Screen(injected, np.ones(len(latents), dtype=bool), np.full(len(latents), 1e-4)))
        return tuple(found)

    return look


def test_latents_that_failed_the_tests_before_are_no_members_and_enough_must_be_left():
    seeds, everyone = seeds_of(), np.arange(M)
    of_all = select(seeds[:5])
    once = find(seeds, screened([everyone[::2], *[np.empty(0, int)] * 4]))
    assert len(once.members) == len(of_all), "four of five seeds are enough"
    assert not (once.members[:, 0] % 2 == 0).any() and (once.members[:, 0] == -1).sum() == (of_all[:, 0] % 2 == 0).sum()
    twice = find(seeds, screened([everyone[::2], everyone, *[np.empty(0, int)] * 3]))
    assert {tuple(row[2:]) for row in twice.members} == {tuple(row[2:]) for row in of_all if row[0] % 2}
    none = find(seeds, screened([everyone] * 5))
    assert none.members.shape == (0, 5) and none.fires == 1.0 and none.inert == 0.0 and none.screened


def test_a_screen_asks_for_silence_on_own_tokens_and_an_effect_that_survives_a_correction():
    injected, supports = np.array([0.0, 0.10, 0.11, 0.0, 0.0]), np.array([True, True, True, False, True])
    one = Screen(injected, supports, np.array([0.01, 0.01, 0.01, 0.01, 0.2]))
    assert one.passes.tolist() == [True, True, False, False, False]
    assert one.fires.tolist() == [False, False, True, False, False]
    assert one.inert.tolist() == [False, False, False, True, True]
    many = Screen(np.zeros(100), np.ones(100, dtype=bool), np.append(0.04, np.full(99, 0.9)))
    assert not many.passes.any(), "one of a hundred at 0.04 is nothing"


def test_own_tokens_hold_most_of_the_activation():
    token_id = np.array([7, 3, 7, 9, 3, 5, 1])
    latent = np.array([1.0, 0.4, 0.5, 3.0, 0.2, 0.0, 0.1])
    assert own_tokens(latent, token_id).tolist() == [9, 7, 3]
    assert own_tokens(np.where(token_id == 5, 1.0, 0.0), token_id).tolist() == [5]
    assert len(own_tokens(np.zeros(7), token_id)) == 0


def test_a_duplicated_primitive_counts_once():
    seeds = seeds_of()[:5]
    doubled = [one._replace(rows=np.concatenate([one.rows, one.rows[:40]]), number=np.arange(M + 40)) for one in seeds]
    assert len(select(seeds)) == len(select(doubled)) == M


def test_confirmation_takes_the_smaller_of_cosine_and_correlation():
    seeds, (held,) = seeds_of()[:5], seeds_of()[5:6]
    members = select(seeds)
    (r,), of_select = confirm(members, seeds, [held])
    assert of_select.mean() == pytest.approx(r.mean())  # Every seed has every member here.
    for p in (0, 17, 60):
        centre = np.mean([one.rows[members[p, s]] for s, one in enumerate(seeds)], axis=0)
        j = int((held.rows @ centre).argmax())
        cosine, correlation = [], []
        for s, one in enumerate(seeds):
            x, y = one.code.toarray()[:, members[p, s]], held.code.toarray()[:, j]
            either = (x > 0) | (y > 0)
            cosine.append(one.rows[members[p, s]] @ held.rows[j])
            correlation.append(np.corrcoef(x[either], y[either])[0, 1])
        assert r[p] == pytest.approx(min(np.mean(cosine), np.mean(correlation)), abs=1e-5)
    few = held._replace(rows=held.rows[:10], number=held.number[:10], code=held.code[:, :10])
    assert (confirm(members, seeds, [few])[0][0] == 0).sum() == M - 10


def judged(main: Primitives, gates: tuple[Gate, ...] = (), **others: Primitives):
    return primitives.summarise({"main": main, **others}, seeds=10, gates=gates, whole=0.6, bootstrap=300, seed=0)


def test_planted_primitives_are_found_and_the_null_pipeline_yields_none():
    main, null = find(seeds_of(share=0.9), passing), find(nulls())
    found = judged(main, frozen_decoder=null)
    assert found.value is not None and found.value == pytest.approx(main.r.mean())
    assert found.also["primitives"] == len(main.members) > 40
    assert null.members.shape[0] == 0 and found.nulls["frozen_decoder"].interval == (0.0, 0.0)
    assert 0.7 < main.of_dictionary < 0.9 and 0.6 < main.of_energy < 0.95
    assert "reconstruction energy" in found.gates[-2].detail


def made(values: float, count: int, screened: bool = True) -> Primitives:
    r = np.full((5, count), values)
    return Primitives(np.zeros((count, 5), dtype=np.int64), r, np.full(5, values), 0.1, 0.2, screened)


def test_a_null_with_too_few_primitives_does_not_pass_however_stable():
    found = judged(made(0.95, 100), random_model=made(0.99, 9), frozen_decoder=made(0.99, 10))
    intervals = {name: null.interval for name, null in found.nulls.items()}
    assert intervals["random_model"] is not None and intervals["random_model"][0] == 0
    assert "too few to count" in found.nulls["random_model"].note
    assert intervals["frozen_decoder"] == pytest.approx((0.99, 0.99))


def test_few_or_unconfirmed_primitives_fail_a_gate_and_a_clear_miss_needs_none():
    def failed(found: Primitives) -> list[str]:
        return [gate.name for gate in judged(found).gates if not gate.passed]

    assert failed(made(0.95, 9)) == ["primitives"]
    mixed = made(0.99, 100)
    mixed.r[:, :11] = 0.6
    assert failed(mixed) == ["most confirmed"]
    assert failed(made(0.6, 100)) == []
    assert failed(made(0.95, 100, screened=False)) == ["screened"]
    none = judged(Primitives(np.empty((0, 5), np.int64), np.empty((5, 0)), np.empty(5), 0.0, 0.0, True))
    assert none.value is None and none.not_run == "No primitive was selected."
