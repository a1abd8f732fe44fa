"""Run by the Python that has the peers: `peers.py LIBRARY SAE_FOLDER OUT`.

Makes a small transformer and tokens, opens the SAE in SAELens, lets the library's own functions measure it, and leaves
what they measured (metrics.json) beside what they looked at (seen.safetensors).
"""

import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from sae_lens import SAE
from safetensors.torch import save_file
from transformer_lens import HookedTransformer, HookedTransformerConfig

HOOK, LAYER, SEQUENCES, LENGTH, VOCABULARY = "blocks.0.hook_resid_post", 0, 24, 12, 40
ASKED = {"compute_kl": True, "compute_ce_loss": True, "n_batches": 1, "eval_batch_size_prompts": SEQUENCES}
WANTED = {
    "n_batches": 1,
    "compute_l2_norms": True,
    "compute_sparsity_metrics": True,
    "compute_variance_metrics": True,
    "compute_featurewise_density_statistics": True,
    "eval_batch_size_prompts": SEQUENCES,
    "model_kwargs": {},
}


def saelens(sae, model, store):
    from sae_lens import evals
    from sae_lens.training.activation_scaler import ActivationScaler

    sae.cfg.metadata.hook_name, sae.cfg.metadata.hook_head_index = HOOK, None
    spliced = evals.get_downstream_reconstruction_metrics(sae, model, store, ActivationScaler(), **ASKED)
    read, _ = evals.get_sparsity_and_variance_metrics(sae, model, store, ActivationScaler(), **WANTED)
    return spliced | read


def saebench(sae, model, store):
    from sae_bench.evals.core import main as core

    old = SimpleNamespace(
        cfg=SimpleNamespace(hook_name=HOOK, hook_layer=LAYER, hook_head_index=None, d_sae=sae.cfg.d_sae),
        device="cpu",
        encode=sae.encode,
        decode=sae.decode,
    )
    spliced = core.get_downstream_reconstruction_metrics(old, model, store, **ASKED)
    read, _ = core.get_sparsity_and_variance_metrics(old, model, store, **WANTED)
    return spliced | read


@torch.no_grad()
def main(library, folder, out):
    sae = SAE.load_from_disk(folder)
    torch.manual_seed(0)
    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=2, d_model=sae.cfg.d_in, n_heads=2, d_head=3, n_ctx=LENGTH, d_vocab=VOCABULARY, act_fn="gelu_new",
            init_weights=True, device="cpu",
        )
    )  # fmt: skip
    for parameter in model.parameters():
        parameter.normal_(std=0.7)
    tokens = torch.randint(VOCABULARY, (SEQUENCES, LENGTH))
    metrics = {"saelens": saelens, "saebench": saebench}[library](
        sae, model, SimpleNamespace(get_batch_tokens=lambda count: tokens)
    )
    clean, cache = model.run_with_cache(tokens)
    x = cache[HOOK]
    latents = sae.encode(x)

    def put(value, activations, hook):
        return value

    with_hook = partial(model.run_with_hooks, tokens)
    seen = {
        "tokens": tokens,
        "x": x.flatten(0, 1),
        "latents": latents.flatten(0, 1),
        "x_hat": sae.decode(latents).flatten(0, 1),
        "clean": clean,
        "sae": with_hook(fwd_hooks=[(HOOK, partial(put, sae.decode(latents)))]),
        "zero_ablated": with_hook(fwd_hooks=[(HOOK, partial(put, torch.zeros_like(x)))]),
    }
    save_file({name: tensor.contiguous() for name, tensor in seen.items()}, Path(out) / "seen.safetensors")
    (Path(out) / "metrics.json").write_text(json.dumps(metrics))


if __name__ == "__main__":
    main(*sys.argv[1:])
