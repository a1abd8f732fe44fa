"""Weights & Biases offline and TensorBoard: what is logged, the key nowhere, and nothing of it that stops a run."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event
from wandb.proto import wandb_internal_pb2

from raysae.stages import tracking
from raysae.store import Manifest
from tests.runs import copy_before, hashes, in_process, overrides

SECRET = "0123456789abcdef0123456789abcdef01234567"


def records(path: Path) -> Iterator[Any]:
    """Of a `.wandb` file: a LevelDB log behind a header of 7 bytes, in blocks of 32 kB."""
    data, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:  # no room for a header
            place += left
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def values(items: Any) -> dict[str, Any]:
    return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}


def logged(out: Path) -> dict[str, dict[str, Any]]:
    """Job type -> group, configuration, summary, history and artifact files of its run."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(out.glob("wandb/offline-run-*/*.wandb")):
        one: dict[str, Any] = {"config": {}, "summary": {}, "history": [], "files": set()}
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                one |= {"job": record.run.job_type, "group": record.run.run_group}
                one["config"] |= values(record.run.config.update)
            elif kind == "summary":
                one["summary"] |= values(record.summary.update)
            elif kind == "history":
                one["history"].append(values(record.history.item))
            elif kind == "artifact":
                one["files"] |= {entry.path for entry in record.artifact.manifest.contents}
        found[one["job"]] = one
    return found


@pytest.fixture(scope="module")
def tracked(undisturbed: Path, tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tracked")
    copy_before("train", undisturbed, out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(tracking.KEY, SECRET)
        done = in_process(
            "run", str(tiny_config), *overrides(out), "tracking.wandb=offline", "tracking.tensorboard=true"
        )
    assert done.returncode == 0, done.stderr
    assert "was not logged" not in done.stdout
    return out / "tiny"


def test_each_stage_that_ran_is_a_run_of_the_experiments_group(tracked: Path) -> None:
    found = logged(tracked.parent)
    assert set(found) == {"train", "evaluate", "decide", "report"}
    assert {one["group"] for one in found.values()} == {"tiny"}
    for one in found.values():
        assert one["config"]["sae"]["architecture"] == "batch_topk"
        assert "out" not in one["config"]
        assert one["summary"]["seconds"] >= 0


def test_curves_numbers_and_verdict_are_those_of_the_run_folder(tracked: Path) -> None:
    found = logged(tracked.parent)
    history = json.loads((tracked / "sae" / "main" / "0" / "history.json").read_text())
    rows = [row for row in found["train"]["history"] if "main/0/fvu" in row]
    assert [row["main/0/fvu"] for row in rows] == pytest.approx(history["fvu"])
    metrics = json.loads((tracked / "metrics" / "metrics.json").read_text())["criteria"]
    assert found["evaluate"]["summary"]["reconstruction/value"] == metrics["reconstruction"]["value"]
    verdict = json.loads((tracked / "verdict.json").read_text())
    assert found["decide"]["summary"]["outcome"] == verdict["outcome"]
    assert found["decide"]["summary"]["alignment/outcome"] == verdict["criteria"]["alignment"]["outcome"]


def test_tensorboard_reads_the_curves_of_every_sae(tracked: Path) -> None:
    for path in (tracked / "sae").rglob("history.json"):
        home = tracked.parent / "tensorboard" / "tiny" / path.parent.relative_to(tracked / "sae")
        (file,) = home.iterdir()
        assert file.name.startswith("events.out.tfevents.")
        drawn: dict[str, list[tuple[int, float]]] = {}
        for event in events(file):
            for value in event.summary.value:
                drawn.setdefault(value.tag, []).append((event.step, value.simple_value))
        history = json.loads(path.read_text())
        assert drawn.keys() == history.keys()
        for name, points in drawn.items():
            assert [step for step, _ in points] == history["step"] == [25, 50, 75, 80]
            assert [value for _, value in points] == pytest.approx(history[name])


def events(path: Path) -> Iterator[Event]:
    """Of a file of records: length, its checksum, data, their checksum."""
    data, place = path.read_bytes(), 0
    while place < len(data):
        (length,) = struct.unpack("<Q", data[place : place + 8])
        yield Event.FromString(data[place + 12 : place + 12 + length])
        place += 16 + length


def test_report_seal_verdict_and_every_manifest_are_one_artifact(tracked: Path) -> None:
    manifests = {str(path.relative_to(tracked)) for path in tracked.rglob("manifest.json")}
    files = {"report.html", "protocol.json", "verdict.json", "record.json", "metrics/metrics.json"}
    assert logged(tracked.parent)["report"]["files"] == manifests | files


def test_the_key_is_in_no_file(tracked: Path) -> None:
    for path in tracked.parent.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_a_tracked_run_is_the_same_run(tracked: Path, undisturbed: Path) -> None:
    assert hashes(tracked, "sae", "activations") == hashes(undisturbed, "sae", "activations")
    assert Manifest.read(tracked / "metrics").fingerprint == Manifest.read(undisturbed / "metrics").fingerprint


def test_online_without_a_key_is_refused_before_anything_is_written(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(tracking.KEY, raising=False)
    done = in_process("run", str(tiny_config), *overrides(tmp_path), "tracking.wandb=online")
    assert done.returncode == 2
    assert "tracking.wandb=online without WANDB_API_KEY" in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_goes_wrong_there_is_a_line_and_no_more(
    undisturbed: Path, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_before("decide", undisturbed, tmp_path)
    monkeypatch.setattr(tracking, "_log", lambda *_: 1 / 0)
    done = in_process("run", str(tiny_config), *overrides(tmp_path), "tracking.wandb=offline")
    assert done.returncode == 0
    assert "tracking: decide was not logged (division by zero)" in done.stdout
    assert (folder / "report.html").is_file()
