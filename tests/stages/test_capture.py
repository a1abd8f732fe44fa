"""Portions, batches and too little memory: whatever is cut how, a token gets the activations of its text alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from raysae.errors import BadInput
from raysae.models.capture import capture as capture_activations
from raysae.models.load import load_model
from raysae.stages import capture
from raysae.stages.capture import Capturer, portions
from raysae.stages.forward import Forward, token_batches
from raysae.types import Experiment, HookPoint

POINT = HookPoint(layer=1, site="resid_post")
DOCUMENTS = [np.arange(2, 2 + length) for length in (7, 3, 12, 3, 9)]


def forward(batch_tokens: int) -> Forward:
    return Forward(load_model(Experiment.model_validate({"name": "c"}).model), [POINT], batch_tokens)


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 5000))
@example([225, 250], 500)
def test_batches_hold_every_document_once_within_their_budget(lengths: list[int], most: int) -> None:
    found = list(token_batches(lengths, most))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    for batch in found:
        padded = len(batch) * max(lengths[i] for i in batch)
        assert len(batch) == 1 or padded <= most
        padding = padded - sum(lengths[i] for i in batch)
        assert 20 * padding <= padded or padded <= most / 8 + max(lengths), "more padding than a small batch excuses"


def test_padding_of_text_is_less_than_a_twentieth() -> None:
    drawn = np.random.default_rng(0).lognormal(np.log(130), 0.5, 2000)
    lengths = np.clip(drawn.astype(int), 8, 1024).tolist()
    for budget in (2048, 8192, 16384):
        padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in token_batches(lengths, budget))
        assert 1 - sum(lengths) / padded < 0.05


def alone(model: Any) -> np.ndarray:
    found = [
        capture_activations(model, torch.from_numpy(ids)[None], torch.ones(1, len(ids), dtype=torch.int64), [POINT])
        for ids in DOCUMENTS
    ]
    return np.concatenate([one[POINT][0].numpy() for one in found])


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 60))
def test_portions_hold_every_document_once_in_order_and_no_more_than_fits(lengths: list[int], most: int) -> None:
    found = list(portions(lengths, most))
    assert [i for portion in found for i in portion] == list(range(len(lengths)))
    for portion in found:
        assert len(portion) == 1 or sum(lengths[i] for i in portion) <= most
    for one, following in zip(found, found[1:], strict=False):
        assert sum(lengths[i] for i in one) + lengths[following.start] > most


@pytest.mark.parametrize("batch_tokens", [4, 24, 8192])
def test_a_batch_gives_each_document_what_it_gets_alone(batch_tokens: int) -> None:
    tried = forward(batch_tokens)
    np.testing.assert_allclose(tried(DOCUMENTS)[str(POINT)], alone(tried.model), rtol=1e-4, atol=1e-5)


def test_too_little_memory_halves_the_batch_and_keeps_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def small(model: Any, ids: torch.Tensor, mask: torch.Tensor, points: Any) -> Any:
        tried.append(len(ids))
        if len(ids) > 2:
            raise torch.OutOfMemoryError("no room")
        return capture_activations(model, ids, mask, points)

    monkeypatch.setattr("raysae.stages.forward.capture_activations", small)
    run = forward(8192)
    np.testing.assert_allclose(run(DOCUMENTS)[str(POINT)], alone(run.model), rtol=1e-4, atol=1e-5)
    assert tried == [5, 2, 3, 1, 2]
    monkeypatch.setattr(
        "raysae.stages.forward.capture_activations", lambda *_: small(run.model, torch.zeros(3, 12), torch.ones(1), ())
    )
    with pytest.raises(BadInput, match="a document of 12 tokens does not fit.*type tokenizer.ctx_len=6"):
        forward(12)(DOCUMENTS)


def test_a_block_cut_into_portions_holds_the_rows_of_one_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    experiment = Experiment.model_validate({"name": "c"})
    documents = [(f"r{i}", ids.astype(np.int32), np.zeros(len(ids), np.int16)) for i, ids in enumerate(DOCUMENTS)]
    one = Capturer.__new__(Capturer)
    one.job, one.widths = SimpleNamespace(capture=experiment.capture), {str(POINT): 64}
    whole = one._write(tmp_path / "whole", forward(8192), documents)
    monkeypatch.setattr(capture, "ROW_GROUP_ROWS", 10)
    monkeypatch.setattr(capture, "PORTION_FLOATS", 1)
    parts = one._write(tmp_path / "parts", forward(8192), documents)
    tables = [pq.read_table(tmp_path / name) for name in ("whole", "parts")]
    for name in ("record", "position", "token_id", "step"):
        assert tables[0][name].to_pylist() == tables[1][name].to_pylist()
    values = [np.array(table[str(POINT)].to_pylist(), np.float32) for table in tables]
    np.testing.assert_allclose(*values, rtol=2e-3, atol=1e-4)
    rms = [found["statistics"][str(POINT)]["rms"] for found in (whole, parts)]
    assert rms[0] == pytest.approx(rms[1], rel=1e-4)
