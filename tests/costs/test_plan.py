"""Time and cost from work, devices, prices and what was timed; what goes beyond the budget."""

from pathlib import Path

import pytest

from raysae.costs.devices import DEVICES, known, rtx_hours
from raysae.costs.plan import Machine, Plan, Speed, check_budget, plan
from raysae.costs.prices import Prices, read
from raysae.costs.work import Work
from raysae.errors import BadInput
from raysae.types.budget import BudgetConfig

HOUR_OF_TWO_H100 = Work(1, tokens=5, disk=10**10, flops=2 * 989e12 * 0.5 * 3600, gpus=2, half=True)
PRICES = Prices(currency="USD", device_hour={"H100": 3.0, "cpu": 0.1}, gb_month=0.5)


def planned(work: dict[str, Work], **options: object) -> Plan:
    chosen = {"machine": Machine("H100", 4), "prices": PRICES, "speeds": {}, "budget": BudgetConfig(mfu=0.5), **options}
    return plan("cache", work, counted_by="by hand", exact=True, **chosen)  # type: ignore[arg-type]


def test_without_a_rehearsal_time_is_operations_over_a_share_of_the_peak_and_bytes_over_the_bandwidth() -> None:
    half = Work(1, flops=HOUR_OF_TWO_H100.flops, moved=2 * 3350e9 * 60, gpus=2, half=True)
    found = planned({"capture": HOUR_OF_TWO_H100, "train": half})
    capture, train = found.stages["capture"], found.stages["train"]
    assert capture.wall_s == pytest.approx(3600)
    assert train.wall_s == pytest.approx(3660)
    assert capture.device_hours == pytest.approx(2) and capture.cost == pytest.approx(6)
    assert found.storage_cost == pytest.approx(5)
    assert found.cost == pytest.approx(5 + 6 + 2 * 3 * 3660 / 3600)
    assert "0.5 of the peak of H100" in found.timed_by


def test_a_stage_that_was_timed_takes_that_long_and_holds_every_core() -> None:
    found = planned({"evaluate": Work(10)}, speeds={"evaluate": Speed(3, 0.5)})
    line = found.stages["evaluate"]
    assert (line.wall_s, line.device) == (8, "cpu")
    assert line.device_hours == pytest.approx(4 * 8 / 3600)
    assert found.timed_by == "timed by a rehearsal on this machine"


def test_what_nobody_can_time_is_named_and_costs_nothing() -> None:
    found = planned({"ingest": Work(10), "capture": HOUR_OF_TWO_H100})
    assert found.stages["ingest"].wall_s is None and found.untimed == ("ingest",)
    assert found.cost == pytest.approx(11)
    assert "not timed: ingest" in found.summary


def test_a_device_without_a_price_leaves_the_whole_without_one() -> None:
    assert (
        planned({"capture": HOUR_OF_TWO_H100}, prices=PRICES.model_copy(update={"device_hour": {"cpu": 1}})).cost
        is None
    )
    assert planned({"capture": HOUR_OF_TWO_H100}, prices=None).cost is None


def test_a_gpu_stage_on_a_machine_without_one_is_reckoned_on_its_cores() -> None:
    line = planned({"capture": Work(1, flops=0.05e12 * 0.5 * 60, gpus=2, workers=2)}, machine=Machine("cpu", 1)).stages
    assert line["capture"].device == "cpu" and line["capture"].wall_s == pytest.approx(60)


def test_an_rtx_equivalent_hour_is_one_of_the_reference() -> None:
    assert rtx_hours("RTX 4090", 7) == 7
    assert rtx_hours("H100", 1) == pytest.approx(989 / 165)
    assert known("NVIDIA H100 PCIe") == "H100 PCIe" and known("NVIDIA H100 80GB HBM3") == "H100"
    assert known("NVIDIA GeForce RTX 4090") == "RTX 4090" and known("x86_64") is None
    assert all(len({one for one in DEVICES if one in name}) <= 2 for name in DEVICES)


def test_beyond_the_budget_one_line_says_what_arrived_what_was_allowed_and_what_to_type() -> None:
    found = planned({"capture": HOUR_OF_TWO_H100})
    assert found.rtx_hours == pytest.approx(2 * 989 / 165)
    check_budget(found, BudgetConfig(rtx_hours=12, gb=10))
    with pytest.raises(BadInput) as refused:
        check_budget(found, BudgetConfig(rtx_hours=11, gb=9))
    said = str(refused.value)
    assert said.startswith("the plan needs 12 hours of an RTX 4090 and 10 GB on disk; ")
    assert "allowed: budget.rtx_hours=11 and budget.gb=9; type budget.rtx_hours=12 budget.gb=11 to go on" in said
    with pytest.raises(BadInput, match="^the plan needs 10 GB on disk; allowed: budget.gb=0; type budget.gb=11 to"):
        check_budget(found, BudgetConfig(gb=0))


@pytest.mark.parametrize("hours", [0.004, 0.9, 7.0, 99.96, 101.0, 12_345.6])
def test_what_is_to_be_typed_is_enough(hours: float) -> None:
    work = Work(1, flops=hours * 3600 * 165e12 * 0.5, gpus=1, half=True)
    found = planned({"capture": work}, machine=Machine("RTX 4090", 4))
    with pytest.raises(BadInput) as refused:
        check_budget(found, BudgetConfig(rtx_hours=0))
    typed = float(str(refused.value).split("type budget.rtx_hours=")[1].split()[0])
    check_budget(found, BudgetConfig(rtx_hours=typed))
    assert typed <= max(1.2 * hours, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file"),
        ("{currency: USD, device_hour: {}}", "device_hour"),
        ("{currency: USD, device_hour: {cpu: 1}, discount: 2}", "discount"),
        ("{currency: USD, device_hour: {cpu: cheap}}", "device_hour.cpu"),
        ("[1", "expected"),
    ],
)
def test_unusable_prices_are_refused_by_name(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=said) as refused:
        read(path)
    assert str(path) in str(refused.value) and "cluster/prices.yaml" in str(refused.value)


def test_the_prices_that_are_shipped_name_every_device() -> None:
    prices = read(Path(__file__).parents[2] / "cluster" / "prices.yaml")
    assert prices is not None
    assert [name for name in DEVICES if prices.hours(name, 1) is None] == []
    assert prices.hours("L40S", 2) == 2 * prices.device_hour["L40S"]
