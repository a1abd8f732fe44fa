"""The resource ledger: what it says a stage made is what lies there, and what it says was used was used."""

import json
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from raysae.errors import Stopped
from raysae.stages.resources import disconnect, map_blocks
from raysae.stages.spent import recording
from raysae.stages.usage import Process, Used, collect, counting, hear
from raysae.store import Manifest, RunFolder, TokenStore
from raysae.types import Experiment

MIB = 1 << 20


def rows(folder: Path) -> dict[str, dict[str, float]]:
    return json.loads((folder / "resources.json").read_text())["stages"]


def test_every_stage_of_a_run_has_a_row(undisturbed: Path) -> None:
    from raysae.pipeline import STAGES

    found = rows(undisturbed)
    assert tuple(found) == STAGES
    for stage, row in found.items():
        assert 0 < row["cpu_hours"] * 3600 < row["wall_s"] * 16, stage
        assert row["device"] == "cpu" and row["device_hours"] * 3600 >= row["wall_s"] * 0.99, stage
        assert row["peak_bytes"] > 50 * MIB and row["read_bytes"] > 0 and row["written_bytes"] > 0, stage
        assert row["cost"] is None, "nobody gave prices"


def test_the_ledger_holds_no_path_of_this_machine(undisturbed: Path) -> None:
    text = (undisturbed / "resources.json").read_text()
    assert str(undisturbed.parent) not in text and '"/' not in text


def test_tokens_and_bytes_of_activations_are_those_in_the_files(undisturbed: Path) -> None:
    row = rows(undisturbed)["capture"]
    tokens = TokenStore(undisturbed / "tokens").tokens
    numbers = disk = 0
    for path in undisturbed.glob("activations/*/*.parquet"):
        table = pq.read_table(path, columns=["layers.1.resid_post", "layers.0.mlp_out"])
        numbers += sum(column.combine_chunks().flatten().to_numpy().nbytes for column in table.columns)
        disk += path.stat().st_size
    assert (row["tokens"], row["numbers_bytes"], row["disk_bytes"]) == (2 * tokens, numbers, disk)
    assert rows(undisturbed)["tokenize"]["tokens"] == tokens
    assert row["written_bytes"] > disk


def test_bytes_of_saes_are_those_of_their_tensors(undisturbed: Path) -> None:
    numbers = 0
    for path in undisturbed.glob("sae/*/*/sae_weights.safetensors"):
        with safe_open(path, framework="np") as file:
            numbers += sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118
    row = rows(undisturbed)["train"]
    assert row["numbers_bytes"] == numbers
    assert row["tokens"] == 4 * 80 * 256, "two arms, two seeds"
    assert row["disk_bytes"] == sum(
        Manifest.read(path.parent).bytes for path in undisturbed.glob("sae/*/*/manifest.json")
    )


def test_a_stage_that_is_taken_up_again_adds_to_its_row_and_keeps_the_higher_peak(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("{currency: EUR, device_hour: {cpu: 3600}}")
    experiment = Experiment.model_validate({"name": "x", "out": tmp_path, "budget": {"prices": prices}})
    folder = RunFolder(experiment)
    folder.root.mkdir()
    with pytest.raises(Stopped), recording("seal", experiment, folder):
        held = bytearray(64 * MIB)
        raise Stopped("SIGTERM")
    del held
    first = rows(folder.root)["seal"]
    with recording("seal", experiment, folder):
        time.sleep(0.05)
    second = rows(folder.root)["seal"]
    assert second["wall_s"] >= first["wall_s"] + 0.05
    assert second["peak_bytes"] >= first["peak_bytes"]
    assert second["cost"] == pytest.approx(second["device_hours"] * 3600)


def test_a_failed_attempt_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    experiment = Experiment.model_validate({"name": "x", "out": tmp_path})
    with pytest.raises(ValueError), recording("seal", experiment, RunFolder(experiment)):
        raise ValueError
    assert not (tmp_path / "x").exists()


def test_peaks_are_the_highest_and_the_rest_is_summed_over_processes_not_over_their_words(tmp_path: Path) -> None:
    with counting() as tally:
        hear("a", Used(cpu_s=1, peak_bytes=10 << 40, read_bytes=5))
        hear("a", Used(cpu_s=3, peak_bytes=11 << 40, read_bytes=7))
        hear("b", Used(cpu_s=2, peak_bytes=9 << 40, gpu_s=4, gpu="H100"))
        Process(gpus=0.5).leave(tmp_path)
        collect(tmp_path)
    assert not list(tmp_path.iterdir())
    total = tally.total()
    assert total.cpu_s >= 5 and total.peak_bytes == 11 << 40
    assert total.gpu == "H100" and total.gpu_s >= 4
    hear("nobody listens", Used())


class _Busy:
    """Burns a second of a core, holds and writes 64 MiB."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def __call__(self, item: dict[str, int]) -> int:
        end = time.process_time() + 1
        while time.process_time() < end:
            pass
        (self.folder / str(item["number"])).write_bytes(b"x" * 64 * MIB)
        return item["number"]


@pytest.mark.ray
@pytest.mark.slow
def test_what_actors_use_reaches_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSAE_LOCAL", "0")
    try:
        with counting() as tally:
            items = [{"number": number} for number in range(3)]
            assert sorted(map_blocks(_Busy, (str(tmp_path),), items, actors=2)) == [0, 1, 2]
        workers = list(tally.by_process.values())[:-1]
        assert len(workers) == 2
        assert 3 <= sum(used.cpu_s for used in workers) < 60
        assert sum(used.written_bytes for used in workers) >= 3 * 64 * MIB
        assert all(used.peak_bytes > 64 * MIB for used in workers)
    finally:
        disconnect()
