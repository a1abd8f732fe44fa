"""Phase 3: the four channels, the tripwires, and two guided SAEs: an honest one, and one that was given TEST labels."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from raysae.falsification import Protocol, decide
from raysae.falsification.metrics import leakage, tripwires
from raysae.falsification.metrics.tallies import Key, Tally, score
from raysae.types import CriterionVerdict, Gate, Metric, Outcome, Reason
from tests.falsification.metrics.guided import SEEDS, evidence

BOOT = {"bootstrap": 500, "seed": 0}
OPEN = [Gate(name=name, passed=True, detail="") for name in tripwires.NAMES]

HONEST = {
    ("guided_control", "SEEN"): 0.7,
    ("baseline_control", "SEEN"): 0.7,
    ("guided", "SEEN"): 0.9,
    ("baseline", "SEEN"): 0.8,
    ("guided", "UNSEEN"): 0.9,
    ("baseline", "UNSEEN"): 0.8,
    ("guided", "CUE"): 0.1,
    ("baseline", "CUE"): 0.1,
    ("guided_random_model", "UNSEEN"): 0.35,
    ("baseline_random_model", "UNSEEN"): 0.35,
    ("guided", "PAIR"): 0.8,
    ("baseline", "PAIR"): 0.6,
    ("raw_activations", "UNSEEN"): 0.92,
    ("raw_activations", "PAIR"): 0.9,
    ("raw_activations_nonlinear", "UNSEEN"): 0.93,
    ("surface_model", "UNSEEN"): 0.5,
    ("surface_model", "PAIR"): 0.4,
    ("guided_permuted", "UNSEEN"): 1 / 3,
}
"""Accuracies of a run without a leak."""


def seeds(changes: dict[Key, float] | None = None, count: int = 5, documents: int = 600) -> list[dict[Key, Tally]]:
    """Tallies with these accuracies over three classes; guided and baseline err on much the same documents."""
    found = []
    for s in range(count):
        common = np.random.default_rng(s).random((documents, 3))
        one = {}
        for i, (key, value) in enumerate(sorted({**HONEST, **(changes or {})}.items())):
            own = np.random.default_rng((s, i)).random((documents, 3))
            ranks = np.where(own < 0.1, own * 10, common).argsort(axis=0).argsort(axis=0)
            one[key] = Tally(4.0 * (ranks < value * documents), np.full((documents, 3), 4.0))
        one["guided_permuted_chance", "UNSEEN"] = Tally(np.full((documents, 3), 4.0), np.full((documents, 3), 12.0))
        found.append(one)
    return found


@pytest.fixture
def verdict(make_protocol: Callable[..., Protocol]) -> Callable[[Metric], CriterionVerdict]:
    protocol = make_protocol(criteria=["leakage"])

    def judge(metric: Metric) -> CriterionVerdict:
        found = decide(
            protocol, {"leakage": metric}, sealed_sha256=protocol.sha256, source_sha256=protocol.source_sha256
        )
        return found.criteria["leakage"]

    return judge


def judged(verdict: Callable, changes: dict[Key, float] | None = None, gates=OPEN, **how: Any) -> CriterionVerdict:
    return verdict(leakage.summarise(seeds(changes, **how), gates=gates, **BOOT))


def test_an_honest_guided_sae_is_not_caught(verdict: Callable):
    found, gates = evidence()
    assert [gate.detail for gate in gates if not gate.passed] == []
    metric = leakage.summarise(found, gates=gates, **BOOT)
    assert metric.also["benefit_lower"] is not None and metric.also["benefit_lower"] > 0.2
    assert (verdict(metric).outcome, metric.seeds) == (Outcome.GO, SEEDS)


def test_a_guided_sae_that_was_given_test_labels_is_caught(verdict: Callable):
    found, gates = evidence(labels_of=("UNSEEN", "PAIR"))
    metric = leakage.summarise(found, gates=gates, **BOOT)
    # The four channels see nothing of it: the labels are right, and they are right on every split that was told.
    assert metric.interval is not None and metric.interval[1] <= 0.05
    said = verdict(metric)
    assert (said.outcome, said.reason_code) == (Outcome.INCONCLUSIVE, Reason.GATE_FAILED)
    assert said.reason.startswith("above raw activations: guided latents are +0.0")


LEAKS = {
    "memorisation": {("guided_control", "SEEN"): 0.9},
    "template": {("guided", "UNSEEN"): 0.8, ("guided", "SEEN"): 0.95},
    "cue": {("guided", "CUE"): 0.3},
    "model_free": {("guided_random_model", "UNSEEN"): 0.5},
}


@pytest.mark.parametrize("channel", LEAKS)
def test_a_leak_through_any_channel_is_no_go_whatever_the_benefit(verdict: Callable, channel: str):
    for benefit in (0.8, 0.6):
        metric = leakage.summarise(seeds({**LEAKS[channel], ("guided", "PAIR"): benefit}), gates=OPEN, **BOOT)
        assert verdict(metric).outcome is Outcome.NO_GO
        assert metric.value == metric.also[channel] == max(metric.also[name] or 0 for name in leakage.CHANNELS)


def test_the_channels_are_the_differences_of_the_specification():
    found = seeds(LEAKS["template"])
    metric = leakage.summarise(found, gates=OPEN, **BOOT)

    def a(what: str, split: str) -> float:
        return float(np.mean([score(one[what, split]) for one in found]))

    template = (a("guided", "SEEN") - a("guided", "UNSEEN")) - (a("baseline", "SEEN") - a("baseline", "UNSEEN"))
    assert metric.also["template"] == pytest.approx(template)
    assert metric.also["benefit"] == pytest.approx(a("guided", "PAIR") - a("baseline", "PAIR"))
    assert metric.also["alt_a_difference"] == pytest.approx(abs(a("guided", "UNSEEN") - a("baseline", "UNSEEN")))


def test_no_leak_and_a_benefit_is_go_and_without_benefit_it_is_not(verdict: Callable):
    assert judged(verdict).outcome is Outcome.GO
    useless = judged(verdict, {("guided", "PAIR"): 0.595})
    assert useless.reason_code is Reason.GATE_FAILED and "no leakage, no benefit" in useless.reason
    uneven = [seeds({("guided", "PAIR"): value})[s] for s, value in enumerate((0.5, 0.64, 0.64, 0.64, 0.64))]
    unsure = verdict(leakage.summarise(uneven, gates=OPEN, **BOOT))
    assert unsure.reason_code is Reason.UNDERPOWERED and "needed above 0" in unsure.reason
    few = judged(verdict, documents=400)
    assert few.reason_code is Reason.GATE_FAILED and "400 minimal pairs, needed 500" in few.reason


def test_a_channel_that_was_not_measured_is_named(verdict: Callable):
    found = seeds()
    for one in found:
        del one["guided", "CUE"]
    said = verdict(leakage.summarise(found, gates=OPEN, **BOOT))
    assert said.reason_code is Reason.NOT_RUN and "guided on CUE" in said.reason
    assert verdict(leakage.summarise([], gates=(), **BOOT)).reason_code is Reason.NOT_RUN


def test_a_set_whose_documents_hold_no_judged_token_has_no_number(verdict: Callable):
    found = seeds()
    silent = Tally(np.zeros((600, 3)), np.zeros((600, 3)))
    for one in found:
        one |= {key: silent for key in one if key[1] == "PAIR"} | {("guided_without_designated", "SEEN"): silent}
    gates = tripwires.check(found, texts={"SEEN": {"a"}, "PAIR": {"b"}}, position_share=0.2, **BOOT)
    assert {gate.name: gate.failure for gate in gates if not gate.passed} == {"surface model": Reason.NOT_RUN}
    metric = leakage.summarise(found, gates=gates, **BOOT)
    assert metric.also["guided on PAIR"] is None and metric.also["alt_b_residual"] is None
    assert "nan" not in " ".join(gate.detail for gate in metric.gates)
    json.dumps(metric.model_dump(mode="json"), allow_nan=False)
    assert "0 minimal pairs, needed 500" in verdict(metric).reason


def test_a_text_without_some_sets_still_shows_the_channels_it_allows():
    found = [
        {key: tally for key, tally in one.items() if key[1] == "SEEN"}
        | {(name, "SEEN"): one[name, "UNSEEN"] for name in ("guided_random_model", "baseline_random_model")}
        for one in seeds({("guided_control", "SEEN"): 0.8})
    ]
    metric = leakage.summarise(found, gates=(), **BOOT)
    assert metric.value is None and metric.not_run is not None and "guided on PAIR" in metric.not_run
    assert metric.also["memorisation"] == pytest.approx(0.1, abs=0.01)
    assert metric.also["model_free_on_seen"] == pytest.approx(0.0, abs=0.01)
    assert metric.also["guided on SEEN"] == pytest.approx(0.9, abs=0.01)
    assert not {"cue", "template", "benefit"} & set(metric.also)


def test_tripwires_that_were_not_looked_at_are_no_go_ahead(verdict: Callable):
    said = judged(verdict, gates=OPEN[1:])
    assert said.reason_code is Reason.NOT_RUN and "accuracy too good: this tripwire was not looked at" in said.reason
    both = judged(verdict, gates=[OPEN[1].model_copy(update={"passed": False}), *OPEN[2:]])
    assert both.reason_code is Reason.GATE_FAILED


def test_what_is_left_without_the_designated_latents_is_printed():
    more = {("guided_without_designated", "SEEN"): 1 / 3 + 0.05, ("guided_without_random", "SEEN"): 0.88}
    also = leakage.summarise(seeds(more), gates=OPEN, **BOOT).also
    assert also["alt_b_residual"] == pytest.approx(0.05 / (0.9 - 1 / 3), abs=0.01)
    assert also["alt_b_residual_random"] == pytest.approx((0.88 - 1 / 3) / (0.9 - 1 / 3), abs=0.01)


def wired(changes: dict[Key, float] | None = None, **how: Any) -> dict[str, Gate]:
    texts = {"SEEN": {"a", "b"}, "UNSEEN": {"c"}, "PAIR": {"d"}}
    gates = tripwires.check(seeds(changes), **{"texts": texts, "position_share": 0.2, **BOOT, **how})
    assert tuple(gate.name for gate in gates) == tripwires.NAMES
    return {gate.name: gate for gate in gates}


def test_the_tripwires_are_silent_on_an_honest_run():
    assert all(gate.passed for gate in wired().values())


TRIPS = [
    ("accuracy too good", {"changes": {("raw_activations", "PAIR"): 0.995}}, "accuracy 0.995 on PAIR, limit 0.99"),
    ("surface model", {"changes": {("surface_model", "PAIR"): 0.77}}, r"\+0.030 above the surface model on PAIR"),
    ("above raw activations", {"changes": {("guided", "UNSEEN"): 0.96}}, r"\+0.030 above the best probe"),
    ("permuted labels", {"changes": {("guided_permuted", "UNSEEN"): 0.45}}, r"guided_permuted on UNSEEN has .* \+0."),
    ("identical texts", {"texts": {"TRAIN": {"a"}, "SEEN": {"b", "a"}}}, "1 texts of TRAIN stand in SEEN"),
    ("position-coded weights", {"position_share": 0.6}, "0.600 of the guided probe's weight"),
]


@pytest.mark.parametrize(("name", "how", "said"), TRIPS)
def test_each_tripwire_trips_alone_and_says_its_number(name: str, how: dict[str, Any], said: str):
    gates = wired(**how)
    assert [gate.name for gate in gates.values() if not gate.passed] == [name]
    assert gates[name].failure is Reason.GATE_FAILED
    assert re.search(said, gates[name].detail)


def on_pairs(world: int, read: float, pairs: int = 500) -> list[dict[Key, Tally]]:
    """Five seeds of a probe of five classes, which it says unevenly, on minimal pairs of two; of so many tokens it
    reads the label, and of the others it knows nothing. What it says hangs together within a pair and between seeds."""
    rng = np.random.default_rng(world)
    pair, says = np.repeat(np.arange(pairs), 2), np.array([0.1, 0.3, 0.2, 0.1, 0.3])
    y = np.where(rng.random(pairs) < 0.5, [[1], [3]], [[3], [1]]).T.ravel()
    of_pair = rng.choice(5, pairs, p=says)[pair]
    found = []
    for _ in range(5):
        said = np.where(rng.random(2 * pairs) < 0.5, of_pair, rng.choice(5, 2 * pairs, p=says))
        said = np.where(rng.random(2 * pairs) < read, y, said)
        found.append(tripwires.exchanged(("guided", "PAIR"), y, said, pair, pairs, 5))
    return found


def test_permuted_labels_that_can_be_read_trip_where_few_classes_occur_and_others_seldom():
    """Of 400 such worlds with 500 pairs each, 4 tripped where nothing could be read (docs/log.md, 2026-11-26)."""
    quiet = [tripwires.permuted(on_pairs(world, 0.0, 200), bootstrap=200, seed=0).passed for world in range(40)]
    assert quiet.count(False) <= 5
    for world in range(5):
        seeds = on_pairs(world, 0.2, 200)
        assert score(seeds[0]["guided_permuted", "PAIR"]) < 0.45, "far below 1/2, which was once held for chance"
        gate = tripwires.permuted(seeds, bootstrap=200, seed=0)
        assert not gate.passed and "guided_permuted on PAIR" in gate.detail


def test_permuted_labels_without_their_chance_were_not_measured():
    seeds = [{("guided_permuted", "PAIR"): one["guided_permuted", "PAIR"]} for one in on_pairs(0, 0.0)]
    assert tripwires.permuted(seeds, bootstrap=200, seed=0).failure is Reason.NOT_RUN


def test_what_a_tripwire_needs_and_does_not_get_is_not_run():
    gates = tripwires.check([{}], texts={}, position_share=None, **BOOT)
    assert {gate.failure for gate in gates} == {Reason.NOT_RUN} and not any(gate.passed for gate in gates)


def test_texts_are_the_same_whatever_their_case_and_spaces():
    assert tripwires.text_hash("So  12 + 7\n= 19") == tripwires.text_hash("so 12 + 7 = 19")
    assert tripwires.text_hash("12 + 7") != tripwires.text_hash("12 + 8")


def test_position_codes_are_latents_that_position_explains():
    rng = np.random.default_rng(0)
    position = np.tile(np.arange(12), 200)
    grows, place, free, dead = position + rng.normal(0, 1, 2400), position == 5, rng.random(2400), np.zeros(2400)
    latents = csr_array(np.column_stack([grows, place, free, dead]).astype(float))
    assert tripwires.position_codes(latents, position).tolist() == [True, True, False, False]
    assert abs(np.corrcoef(place, position)[0, 1]) < 0.1  # A straight line would not have seen it.
    sd = np.array([grows.std(), place.std(), free.std()])
    weights = np.array([[0.0, 1 / sd[1], 3 / sd[2], 9.0], [0.0, 0.0, 0.0, 0.0]])
    assert tripwires.position_share(weights, latents, position) == pytest.approx(0.25)
