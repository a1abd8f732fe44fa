import json
from collections.abc import Callable
from typing import Any

import pytest

from raysae.falsification import CRITERIA, NULLS, Protocol, decide
from raysae.falsification.verdict import corrected
from raysae.types import CriterionVerdict, Gate, Metric, NullValue, Outcome, Reason, Verdict

NAN = float("nan")
GO, NO_GO, UNSURE = Outcome.GO, Outcome.NO_GO, Outcome.INCONCLUSIVE
Make = Callable[..., Any]


def judged(protocol: Protocol, *metrics: Metric) -> Verdict:
    by_name = {metric.name: metric for metric in metrics}
    return decide(protocol, by_name, sealed_sha256=protocol.sha256, source_sha256=protocol.source_sha256)


@pytest.fixture
def one(make_protocol: Make, make_metric: Make) -> Callable[..., CriterionVerdict]:
    """The verdict of one criterion for a metric with changes."""

    def judge(name: str = "alignment", protocol: dict[str, Any] | None = None, **changes: Any) -> CriterionVerdict:
        enough = {"seeds": CRITERIA[name].min_seeds, "nulls": list(NULLS)}
        registered = make_protocol(criteria=[name], **{**enough, **(protocol or {})})
        return judged(registered, make_metric(name, **changes)).criteria[name]

    return judge


@pytest.mark.parametrize("name", CRITERIA)
def test_everything_right_is_go(one: Make, name: str):
    found = one(name)
    assert (found.outcome, found.reason_code) == (GO, None)


@pytest.mark.parametrize("name", CRITERIA)
def test_an_interval_wholly_on_the_wrong_side_is_no_go(one: Make, name: str):
    bad = CRITERIA[name].threshold * (3 if CRITERIA[name].direction == "<=" else 1 / 3)
    assert one(name, value=bad, interval=(0.9 * bad, 1.1 * bad)).outcome is NO_GO


@pytest.mark.parametrize(("low", "said"), [(0.49, True), (0.5, False), (None, False)])
def test_a_go_of_latents_that_do_several_things_says_so_and_stays_a_go(one: Make, low: float | None, said: bool):
    found = one("causal_interchange", also={"precision_low": low})
    assert found.outcome is GO and ("Features exist but are not selective" in found.reason) is said
    assert "selective" not in one("causal_interchange", interval=(0.1, 0.2), also={"precision_low": low}).reason


TRUTH_TABLE = [
    ({"interval": (0.94, 1.0)}, UNSURE, Reason.UNDERPOWERED),
    ({"interval": (0.95, 1.0)}, GO, None),
    ({"value": 0.99, "interval": None}, UNSURE, Reason.NOT_RUN),
    ({"value": None, "interval": None, "not_run": "no labels"}, UNSURE, Reason.NOT_RUN),
    ({"value": NAN}, UNSURE, Reason.NOT_RUN),
    ({"interval": (NAN, 1.0)}, UNSURE, Reason.NOT_RUN),
    ({"interval": (0.98, NAN)}, UNSURE, Reason.NOT_RUN),
    ({"value": float("inf"), "interval": (float("inf"), float("inf"))}, UNSURE, Reason.NOT_RUN),
    ({"gates": (Gate(name="g", passed=False, detail="d"),)}, UNSURE, Reason.GATE_FAILED),
    ({"gates": (Gate(name="cap", passed=False, detail="d", failure=Reason.VOID),)}, UNSURE, Reason.VOID),
    ({"gates": (Gate(name="g", passed=False, detail="d"),), "interval": (0.1, 0.2)}, UNSURE, Reason.GATE_FAILED),
    ({"gates": (Gate(name="g", passed=True, detail="d"),)}, GO, None),
    ({"seeds": 4}, UNSURE, Reason.NOT_RUN),
    ({"n": 199}, UNSURE, Reason.GATE_FAILED),
    ({"interval": (0.1, 0.2), "nulls": {}}, NO_GO, None),
]


@pytest.mark.parametrize(("changes", "outcome", "code"), TRUTH_TABLE)
def test_the_truth_table(one: Make, changes: dict[str, Any], outcome: Outcome, code: Reason | None):
    found = one(**changes)
    assert (found.outcome, found.reason_code) == (outcome, code)
    assert found.reason.endswith((".", "labels"))


@pytest.mark.parametrize("name", [name for name, row in CRITERIA.items() if row.min_seeds == 0])
def test_a_claim_about_capture_needs_units_and_no_seeds(one: Make, name: str):
    few = CRITERIA[name].minimum_n - 1
    assert one(name).outcome is GO
    assert (found := one(name, n=few)).outcome is UNSURE and found.reason_code is Reason.UNDERPOWERED
    assert one(name, value=None, interval=None, not_run="No GPU.").reason_code is Reason.NOT_RUN
    failed = one(name, gates=(Gate(name="model unchanged", passed=False, detail="3 of 32 differ"),))
    assert (failed.outcome, failed.reason_code) == (UNSURE, Reason.GATE_FAILED)


def test_a_criterion_without_a_metric_was_not_run(make_protocol: Make):
    found = judged(make_protocol())
    assert {row.reason_code for row in found.criteria.values()} == {Reason.NOT_RUN}
    assert found.outcome is UNSURE


def with_null(metric: Metric, name: str, null: NullValue | None) -> dict[str, NullValue]:
    others = {key: value for key, value in metric.nulls.items() if key != name}
    return others if null is None else {**others, name: null}


@pytest.mark.parametrize("name", [name for name, row in CRITERIA.items() if row.voiding_nulls])
def test_every_voiding_null_voids_and_must_have_been_run(one: Make, make_metric: Make, name: str):
    metric = make_metric(name)
    passing = NullValue(mean=metric.value, p95=metric.value, interval=metric.interval, n=200)
    for null in CRITERIA[name].voiding_nulls:
        assert one(name, nulls=with_null(metric, null, passing)).reason_code is Reason.VOID
        for absent in (
            None,
            NullValue(mean=None, p95=None, note="undefined"),
            NullValue(mean=NAN, p95=NAN, interval=(NAN, NAN)),
        ):
            found = one(name, nulls=with_null(metric, null, absent))
            assert (found.outcome, found.reason_code) == (UNSURE, Reason.NOT_RUN)
            assert null in found.reason


def test_an_informational_null_that_passes_changes_nothing(one: Make, make_metric: Make):
    metric = make_metric("reconstruction")
    passing = NullValue(mean=0.01, p95=0.01, interval=(0.01, 0.02), n=200)
    assert one("reconstruction", nulls=with_null(metric, "random_model", passing)).outcome is GO


def test_a_voiding_null_that_is_not_registered_is_named(one: Make):
    found = one("alignment", protocol={"nulls": ["random_model", "random_dictionary"], "mode": "exploratory"})
    assert found.reason_code is Reason.NOT_RUN
    assert "add it to protocol.nulls" in found.reason and "frozen_decoder" in found.reason


def test_two_seeds_cannot_be_go_but_can_be_no_go(one: Make):
    exploratory = {"mode": "exploratory", "seeds": 2}
    found = one(protocol=exploratory, seeds=2)
    assert (found.outcome, found.reason_code) == (UNSURE, Reason.UNDERPOWERED)
    assert "2 seeds, 5 are needed" in found.reason
    assert one(protocol=exploratory, seeds=2, value=0.1, interval=(0.05, 0.2)).outcome is NO_GO


def test_one_seed_or_one_unit_is_not_even_no_go(one: Make):
    bad = {"value": 0.1, "interval": (0.05, 0.2)}
    assert one(protocol={"mode": "exploratory", "seeds": 1}, seeds=1, **bad).reason_code is Reason.UNDERPOWERED
    assert one("sparsity", n=1, **bad).reason_code is Reason.UNDERPOWERED


def test_too_few_units_cannot_be_go(one: Make):
    assert one("fidelity", n=58).reason_code is Reason.UNDERPOWERED


def test_the_whole_is_the_worst_of_its_parts(make_protocol: Make, make_metric: Make):
    protocol = make_protocol(criteria=["sparsity", "fidelity"])
    good, bad = make_metric("sparsity"), make_metric("fidelity", value=0.1, interval=(0.05, 0.2))
    assert judged(protocol, good, make_metric("fidelity")).outcome is GO
    assert judged(protocol, good, bad).outcome is NO_GO
    assert judged(protocol, bad).outcome is NO_GO
    assert judged(protocol, good).outcome is UNSURE


@pytest.mark.parametrize("which", ["sealed_sha256", "source_sha256"])
def test_a_broken_seal_makes_the_verdict_exploratory_and_takes_its_go(
    make_protocol: Make, make_metric: Make, which: str
):
    protocol = make_protocol(criteria=["sparsity"])
    hashes = {"sealed_sha256": protocol.sha256, "source_sha256": protocol.source_sha256, which: "f" * 64}
    found = decide(protocol, {"sparsity": make_metric("sparsity")}, **hashes, remarks=["attempt 2"])
    assert (found.mode, found.outcome) == ("exploratory", UNSURE)
    assert found.remarks[0] == "attempt 2" and found.remarks[1].startswith("EXPLORATORY")
    assert found.criteria["sparsity"].reason_code is Reason.GATE_FAILED
    bad = make_metric("sparsity", value=0.1, interval=(0.05, 0.2))
    assert decide(protocol, {"sparsity": bad}, **hashes).outcome is NO_GO


def test_the_verdict_is_strict_json(make_protocol: Make, make_metric: Make):
    protocol = make_protocol(criteria=["sparsity"])
    metric = make_metric(
        "sparsity", value=NAN, interval=(NAN, NAN), nulls={"random_model": NullValue(mean=NAN, p95=NAN)}
    )
    found = judged(protocol, metric)
    text = json.dumps(found.model_dump(mode="json"), allow_nan=False)
    assert json.loads(text)["criteria"]["sparsity"]["value"] is None
    assert found.protocol_sha256 == protocol.sha256


def test_a_metric_of_another_criterion_is_an_error(make_protocol: Make, make_metric: Make):
    protocol = make_protocol(criteria=["sparsity"])
    with pytest.raises(ValueError, match="handed in for criterion sparsity"):
        decide(protocol, {"sparsity": make_metric("fidelity")}, sealed_sha256="", source_sha256="")


def test_the_corrected_effect_is_the_share_of_the_way_from_the_hardest_null_to_the_ceiling(make_metric):
    nulls = {"a": NullValue(mean=0.1, p95=0.1), "b": NullValue(mean=0.4, p95=0.5), "c": NullValue(mean=None, p95=None)}
    assert corrected(make_metric("alignment", value=0.7, ceiling=0.9, nulls=nulls)) == pytest.approx(0.6)
    fvu = {"a": NullValue(mean=0.9, p95=0.9), "b": NullValue(mean=0.5, p95=0.5)}
    assert corrected(make_metric("reconstruction", value=0.1, ceiling=0.0, nulls=fvu)) == pytest.approx(0.8)
    assert corrected(make_metric("alignment", value=0.7, ceiling=0.4, nulls=nulls)) is None, "the null is the ceiling"
    assert corrected(make_metric("alignment", ceiling=0.9, nulls={})) is None
