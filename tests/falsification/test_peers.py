"""Our FVU, L0, cross-entropy recovered and KL beside what SAELens and SAEBench make of the same SAE and tokens.

The peers run in a Python of their own, as in `tests/saes/test_interop_peers.py`.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from raysae.falsification.metrics import fidelity, reconstruction
from raysae.stages.export import export
from tests.saes.test_interop import ours

PYTHON = os.environ.get("RAYSAE_PEERS", sys.executable)
SCRIPT = Path(__file__).with_name("peers.py")
MODULES = {"saelens": "sae_lens", "saebench": "sae_bench"}
pytestmark = pytest.mark.slow


class Peer(NamedTuple):
    metrics: dict[str, float]
    seen: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """library -> what it measured of one exported SAE on one small transformer."""

    @cache
    def measure(library: str) -> Peer:
        if subprocess.run([PYTHON, "-c", f"import {MODULES[library]}"], capture_output=True).returncode:
            pytest.skip(f"{MODULES[library]} is not installed for {PYTHON}: see the extra [bench], or set RAYSAE_PEERS")
        folder = tmp_path_factory.mktemp(library)
        export(ours("relu", folder / "ours"), "saelens", folder / "sae")
        done = subprocess.run(
            [PYTHON, str(SCRIPT), library, str(folder / "sae"), str(folder)],
            capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return Peer(json.loads((folder / "metrics.json").read_text()), load_file(folder / "seen.safetensors"))

    return measure


def errors(seen: dict[str, torch.Tensor], mean: torch.Tensor) -> dict[str, float]:
    sequences, length = seen["tokens"].shape
    document = torch.arange(sequences).repeat_interleave(length)
    active = (seen["latents"] != 0).sum(dim=1)
    columns = reconstruction.document_errors(seen["x"], seen["x_hat"], mean, document, sequences, active)
    return {name: float(values.sum()) for name, values in columns.items()}


@pytest.mark.parametrize("library", MODULES)
def test_l0_cosine_and_cross_entropy_recovered_are_the_peers(library, measured):
    theirs, seen = measured(library)
    found = errors(seen, seen["x"].mean(dim=0))
    assert found["l0"] / found["tokens"] == pytest.approx(theirs["l0"], rel=1e-5)
    assert found["cosine"] / found["tokens"] == pytest.approx(theirs["cossim"], rel=1e-4)
    tokens = seen["tokens"]
    where = (torch.ones_like(tokens, dtype=torch.bool), torch.arange(len(tokens)), len(tokens))
    count = fidelity.predicted_tokens(*where).sum()
    nats = {
        name: fidelity.cross_entropy(seen[name], tokens, *where).sum() / count
        for name in ("clean", "sae", "zero_ablated")
    }
    assert nats["clean"] == pytest.approx(theirs["ce_loss_without_sae"], rel=1e-5)
    recovered = (nats["zero_ablated"] - nats["sae"]) / (nats["zero_ablated"] - nats["clean"])
    assert recovered == pytest.approx(theirs["ce_loss_score"], rel=1e-4)


@pytest.mark.parametrize("library", MODULES)
def test_kl_is_the_peers_over_all_positions_and_ours_over_those_that_predict(library, measured):
    theirs, seen = measured(library)
    sequences, length = seen["tokens"].shape

    def kl(positions: int) -> float:
        """Over the first `positions` of every text; one more stands behind, since the last predicts nothing."""
        clean, spliced = (torch.nn.functional.pad(seen[name][:, :positions], (0, 0, 0, 1)) for name in ("clean", "sae"))
        where = (torch.ones(clean.shape[:2], dtype=torch.bool), torch.arange(sequences), sequences)
        return float(fidelity.kl_divergence(clean, spliced, *where).sum()) / (sequences * positions)

    assert kl(length) == pytest.approx(theirs["kl_div_with_sae"], rel=1e-4)
    assert kl(length - 1) != pytest.approx(theirs["kl_div_with_sae"], rel=1e-3)


def test_fvu_is_what_saelens_leaves_unexplained_about_the_mean_of_the_same_tokens(measured):
    theirs, seen = measured("saelens")
    found = errors(seen, seen["x"].mean(dim=0))
    assert 1 - found["sse"] / found["sst"] == pytest.approx(theirs["explained_variance"], rel=1e-5)
    # About the mean over TRAIN, which is what a run registers, it is another number.
    other = errors(seen, seen["x"][: len(seen["x"]) // 4].mean(dim=0))
    assert other["sse"] / other["sst"] != pytest.approx(found["sse"] / found["sst"], rel=1e-6)


def test_the_explained_variance_of_saebench_is_not_ours_for_a_reason_that_can_be_shown(measured):
    """Its 0.6 subtracts (E[x_i^2])^2 in each dimension in the place of (E[x_i])^2, and averages what should be summed;
    computed so from the same tokens, its number comes out. Its legacy formula is the mean of a ratio by token."""
    theirs, seen = measured("saebench")
    x, error = seen["x"], (seen["x"] - seen["x_hat"]).square().sum(dim=1)
    wrong = x.square().sum(dim=1).mean() - x.square().mean(dim=0).mean() ** 2
    assert float(1 - error.mean() / wrong) == pytest.approx(theirs["explained_variance"], rel=1e-4)
    by_token = 1 - error / (x - x.mean(dim=0)).square().sum(dim=1)
    assert float(by_token.mean()) == pytest.approx(theirs["explained_variance_legacy"], rel=1e-4)
    found = errors(seen, x.mean(dim=0))
    assert 1 - found["sse"] / found["sst"] != pytest.approx(theirs["explained_variance"], rel=1e-2)
