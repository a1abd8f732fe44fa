"""Our exports in the peers' own loaders, and their folders in ours: the same latents and the same reconstruction.

The peers run in a Python of their own: `RAYSAE_PEERS` names its executable (a virtual environment with what the extra
[bench] lists); without it they are looked for in this one.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from raysae.saes import ARCHITECTURES, checkpoint
from raysae.saes.interop import LIBRARIES, library
from raysae.stages.export import export
from tests.saes.test_interop import HAS_NO, ours

PYTHON = os.environ.get("RAYSAE_PEERS", sys.executable)
MODULES = {"saelens": "sae_lens", "sparsify": "sparsify", "dictionary_learning": "dictionary_learning"}
SCRIPT = Path(__file__).with_name("peers.py")
pytestmark = pytest.mark.slow


@cache
def _missing(name: str) -> bool:
    return subprocess.run([PYTHON, "-c", f"import {MODULES[name]}"], capture_output=True).returncode != 0


def peer(action: str, name: str, folder: Path, *arguments: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(latents, reconstruction) of x.safetensors as the library computes them."""
    if _missing(name):
        pytest.skip(f"{MODULES[name]} is not installed for {PYTHON}: pip install 'raysae[bench]', or set RAYSAE_PEERS")
    done = subprocess.run(
        [PYTHON, str(SCRIPT), action, name, str(folder), *arguments], capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = load_file(folder / "theirs.safetensors")
    return theirs["latents"], theirs["x_hat"]


def check_equal(sae, x, latents, x_hat) -> None:
    torch.testing.assert_close(sae(x).latents, latents, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae(x).reconstruction, x_hat, rtol=1e-5, atol=1e-5)
    assert (latents > 0).any()
    assert (latents == 0).any()


@pytest.mark.parametrize(
    ("architecture", "to"), [(a, name) for a in ARCHITECTURES for name in LIBRARIES if (a, name) not in HAS_NO]
)
def test_a_peer_opens_our_export_and_computes_the_same(architecture, to, tmp_path):
    export(ours(architecture, tmp_path / "ours"), to, tmp_path / "out")
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(2))
    save_file({"x": x}, tmp_path / "out" / "x.safetensors")
    check_equal(checkpoint.load(tmp_path / "ours"), x, *peer("open", to, tmp_path / "out"))


MADE = [
    ("saelens", "standard", "relu"),
    ("saelens", "topk", "topk"),
    ("saelens", "jumprelu", "jumprelu"),
    ("saelens", "gated", "gated"),
    ("sparsify", "SparseCoder", "topk"),
    ("dictionary_learning", "AutoEncoder", "relu"),
    ("dictionary_learning", "AutoEncoderNew", "relu"),
    ("dictionary_learning", "AutoEncoderTopK", "topk"),
    ("dictionary_learning", "BatchTopKSAE", "jumprelu"),  # with decoder norms of their own: a threshold per latent
    ("dictionary_learning", "JumpReluAutoEncoder", "jumprelu"),
    ("dictionary_learning", "GatedAutoEncoder", "gated"),
]


@pytest.mark.parametrize(("name", "made", "becomes"), MADE)
def test_what_a_peer_wrote_computes_the_same_here(name, made, becomes, tmp_path):
    latents, x_hat = peer("make", name, tmp_path, made)
    sae, provenance = library(name).read(tmp_path)
    assert sae.architecture == becomes
    assert provenance["imported_from"] == name
    norms = _decoder_norms(tmp_path, name)
    check_equal(sae, load_file(tmp_path / "x.safetensors")["x"], latents * norms, x_hat)


def _decoder_norms(folder: Path, name: str) -> torch.Tensor:
    """Our latents come in units of unit decoder rows; so do those of a top-k that was trained to compare them so."""
    weights = {"saelens": "sae_weights", "sparsify": "sae", "dictionary_learning": "ae"}[name]
    tensors = load_file(folder / f"{weights}.safetensors")
    rows = tensors["W_dec"] if "W_dec" in tensors else tensors["decoder.weight"].T
    rescaled = name == "saelens" and "topk" in (folder / "cfg.json").read_text()
    return torch.ones(len(rows)) if rescaled else rows.norm(dim=1)
