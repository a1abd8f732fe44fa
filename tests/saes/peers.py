"""Run by the Python that has the peers: `peers.py ACTION LIBRARY FOLDER [CLASS]`.

`open`: load FOLDER with the library's own loader, run x.safetensors of it and write theirs.safetensors there.
`make`: write a random SAE of CLASS with the library's own writer, its x and what it computes.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # its Triton decoder is for CUDA alone
D_IN, D_SAE, K = 6, 16, 3


def saelens(folder, make=None):
    from sae_lens import SAE
    from sae_lens.registry import get_sae_class

    if make:
        sae_class, config_class = get_sae_class(make)
        extra = {"k": K, "rescale_acts_by_decoder_norm": True} if make == "topk" else {}
        sae = sae_class(config_class(d_in=D_IN, d_sae=D_SAE, apply_b_dec_to_input=make != "standard", **extra))
        randomise(sae)
        sae.save_model(folder)
    else:
        sae = SAE.load_from_disk(str(folder))
    return lambda x: (sae.encode(x), sae(x))


def sparsify(folder, make=None):
    from sparsify import SaeConfig, SparseCoder

    if make:
        sae = SparseCoder(D_IN, SaeConfig(num_latents=D_SAE, k=K))
        randomise(sae)
        sae.set_decoder_norm_to_unit_norm()
        sae.save_to_disk(folder)
    else:
        sae = SparseCoder.load_from_disk(folder)

    def run(x):
        values, indices, _ = sae.encode(x)
        latents = torch.zeros(len(x), sae.num_latents).scatter_(1, indices, values)
        return latents, sae.decode(values, indices)

    return run


def dictionary_learning(folder, make=None):
    from dictionary_learning import dictionary, utils

    if make:
        sae = {
            "AutoEncoder": lambda: dictionary.AutoEncoder(D_IN, D_SAE),
            "AutoEncoderNew": lambda: dictionary.AutoEncoderNew(D_IN, D_SAE),
            "GatedAutoEncoder": lambda: dictionary.GatedAutoEncoder(D_IN, D_SAE),
            "JumpReluAutoEncoder": lambda: dictionary.JumpReluAutoEncoder(D_IN, D_SAE),
            "BatchTopKSAE": lambda: utils.BatchTopKSAE(D_IN, D_SAE, K),
            "AutoEncoderTopK": lambda: utils.AutoEncoderTopK(D_IN, D_SAE, K),
        }[make]()
        randomise(sae)
        save_file({name: tensor.contiguous() for name, tensor in sae.state_dict().items()}, folder / "ae.safetensors")
        trainer = {"dict_class": make, "activation_dim": D_IN, "dict_size": D_SAE, "k": K, "lm_name": "gpt2"}
        (folder / "config.json").write_text(json.dumps({"trainer": trainer}))
    else:
        sae, _ = utils.load_dictionary(str(folder), device="cpu")
    return lambda x: (sae.encode(x), sae(x))


@torch.no_grad()
def randomise(sae):
    """Off its initial values; decoder norms other than 1, except under a top-k, which compares before them."""
    generator = torch.Generator().manual_seed(1)
    per_token = "TopK" in type(sae).__name__ and "Batch" not in type(sae).__name__
    for name, tensor in [*sae.named_parameters(), *sae.named_buffers()]:
        if name == "threshold":
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5)
        elif tensor.is_floating_point() and not ("decoder" in name and per_token and tensor.ndim == 2):
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.3)


if __name__ == "__main__":
    action, library, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    with contextlib.redirect_stdout(io.StringIO()):
        run = globals()[library](folder, sys.argv[4] if action == "make" else None)
        if action == "make":
            x = torch.randn(40, D_IN, generator=torch.Generator().manual_seed(2))
            save_file({"x": x}, folder / "x.safetensors")
        x = load_file(folder / "x.safetensors")["x"]
        with torch.no_grad():
            latents, reconstruction = run(x)
    save_file({"latents": latents.contiguous(), "x_hat": reconstruction.contiguous()}, folder / "theirs.safetensors")
