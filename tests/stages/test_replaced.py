"""Workers in the place of lost ones, with the same jobs: what is finished is neither read for nor written again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raysae.stages.cotrain import Place
from raysae.stages.jobs import plan
from raysae.stages.train import train_all
from raysae.store import ActivationStore, Manifest
from raysae.types.loading import load


def test_only_what_the_lost_workers_did_not_finish_is_trained(
    undisturbed: Path, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["train.steps=40", "train.checkpoint_steps=10"]
    first, second = jobs = plan(load(tiny_config, settings), undisturbed / "activations", tmp_path)[:2]
    batches, asked, board = ActivationStore.batches, list[tuple[int, int]](), tmp_path / "progress.json"

    def watched(store: Any, point: Any, tokens: int, order: int, *, start_step: int, **options: Any) -> Iterator[Any]:
        asked.append((order, start_step))
        for step, batch in enumerate(batches(store, point, tokens, order, start_step=start_step, **options)):
            if asked == [(first.stream.order, 0), (second.stream.order, 0)] and step == 25:
                raise ConnectionError("a worker was lost")
            yield batch

    monkeypatch.setattr(ActivationStore, "batches", watched)
    with pytest.raises(ConnectionError):
        train_all(jobs, board, Place())
    assert [Manifest.exists(job.out) for job in jobs] == [True, False]
    written = {path: path.stat().st_mtime_ns for path in first.out.iterdir()}
    asked.clear()
    train_all(jobs, board, Place())
    assert asked == [(second.stream.order, 20)]
    assert {path: path.stat().st_mtime_ns for path in first.out.iterdir()} == written
    assert Manifest.exists(second.out)
    assert json.loads(board.read_text())["done"] == 80
    asked.clear()
    train_all(jobs, board, Place())
    assert asked == []
