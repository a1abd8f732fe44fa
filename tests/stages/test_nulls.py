"""Every null is made by the code of the real arm, stands beside it, and reaches no GO."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from raysae.falsification import CRITERIA, NULLS
from raysae.pipeline import run
from raysae.saes import build, checkpoint
from raysae.stages.gaussian import gaussian_batches
from raysae.stages.progress import Reporter
from raysae.store import ActivationStore
from raysae.training.hold import SOFT_COSINE
from raysae.types import HookPoint
from raysae.types.experiment import stream_seed
from raysae.types.loading import load

POINT = HookPoint(layer=1, site="resid_post")
NAMED = (*CRITERIA["reconstruction"].voiding_nulls, *CRITERIA["reconstruction"].informational_nulls)
DICTIONARIES = [name for name in NAMED if NULLS[name].level == "dictionary"]


@pytest.fixture(scope="module")
def every_null(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny experiment beside every null there is, in this process; no interventions, which cost minutes."""
    out = tmp_path_factory.mktemp("nulls")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSAE_LOCAL", "1")
        judged = "protocol.criteria=[reconstruction,sparsity,fidelity,alignment]"
        extra = ["sweep.trials=0", "train.steps=40", judged, f"protocol.nulls=[{','.join(NULLS)}]"]
        run(load(tiny_config, [f"out={out}", *extra]), Reporter())
    return out / "tiny"


def criteria(folder: Path) -> dict:
    return json.loads((folder / "verdict.json").read_text())["criteria"]


def test_a_criterion_stands_beside_every_null_it_names(every_null: Path) -> None:
    found = criteria(every_null)
    for null in DICTIONARIES:
        assert found["reconstruction"]["nulls"][null]["mean"] is not None, null
    for name, row in found.items():
        registered = {
            "reconstruction": DICTIONARIES,
            "alignment": ["permuted_labels", "circular_shift", "frozen_decoder"],
        }
        assert set(registered.get(name, ())) <= set(row["nulls"]), name
        assert row["outcome"] != "GO"


def test_the_null_dictionaries_have_the_sparsity_of_the_real_one(every_null: Path) -> None:
    def l0(arm: str) -> float:
        shown = json.loads((every_null / "metrics" / f"{arm}-0.evidence.json").read_text())["reconstruction"]
        return sum(shown["l0"]) / sum(shown["tokens"])

    for null in DICTIONARIES:
        assert l0(null) == pytest.approx(l0("main"), rel=0.5), null


def test_what_was_frozen_is_as_it_began_and_the_rest_is_not(every_null: Path) -> None:
    def rows(arm: str) -> torch.Tensor:
        return checkpoint.load(every_null / "sae" / arm / "0").requires_grad_(False).W_dec

    first = build("batch_topk", 64, 256, 4, stream_seed(0, "sae/0/init")).requires_grad_(False)
    assert torch.equal(rows("frozen_decoder"), first.W_dec)
    assert float((rows("soft_frozen_decoder") * first.W_dec).sum(dim=1).min()) >= SOFT_COSINE - 1e-5
    assert not torch.equal(rows("frozen_encoder"), first.W_dec)
    frozen = checkpoint.load(every_null / "sae" / "frozen_encoder" / "0")
    torch.testing.assert_close(frozen.W_enc, first.W_enc)


def test_the_gaussian_has_the_moments_of_the_real_activations(every_null: Path) -> None:
    store = ActivationStore(every_null / "activations" / "main")
    sample = np.concatenate(
        [batch for batch, _ in zip(gaussian_batches(store, POINT, 4096, 3), range(25), strict=False)]
    )
    real = np.concatenate([store.read(block, POINT).activations for block in store.blocks("TRAIN")])
    scale = np.sqrt(np.outer(real.var(0), real.var(0)))
    assert np.abs(sample.mean(0) - real.mean(0)).max() < 0.05 * real.std(0).max()
    assert (np.abs(np.cov(sample.T) - np.cov(real.T)) / scale).max() < 0.05


def test_a_gaussian_batch_depends_on_its_step_alone(every_null: Path) -> None:
    store = ActivationStore(every_null / "activations" / "main")
    whole = [batch for batch, _ in zip(gaussian_batches(store, POINT, 64, 3), range(4), strict=False)]
    later = next(gaussian_batches(store, POINT, 64, 3, start_step=3))
    assert np.array_equal(whole[3], later)
    assert not np.array_equal(whole[2], later)
