"""SAELens's cached-activations runner, timed on demand: run by the Python that has SAELens (saelens.py).

    python saelens_capture.py TOKENS.npy OPTIONS

TOKENS: int32 [rows, context]. OPTIONS: JSON. Each line on stdin is answered by the seconds of one run to an empty
folder, of wall and of CPU time. The model, of the dimensions asked for and with fresh weights, and the data set of
tokens are made beforehand.
"""

import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

import datasets.config
import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from sae_lens import CacheActivationsRunner, CacheActivationsRunnerConfig, cache_activations_runner, logger
from transformer_lens import HookedTransformer, HookedTransformerConfig


def main(tokens: Path, options: dict) -> None:
    warnings.simplefilter("ignore")
    disable_progress_bars()
    datasets.config.TORCHVISION_AVAILABLE = False  # datasets 3 looks there for a class that newer ones lack
    logger.setLevel("ERROR")
    cache_activations_runner.tqdm = lambda items, **_: items
    rows = np.load(tokens)
    layer, rows_per_batch = options["layer"], options["batch_tokens"] // rows.shape[1]
    torch.manual_seed(0)
    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=options["layers"],
            d_model=options["d_model"],
            n_ctx=options["ctx_len"],
            d_head=options["d_model"] // options["heads"],
            n_heads=options["heads"],
            d_mlp=options["d_mlp"],
            d_vocab=options["vocab"],
            act_fn="gelu_new",
            normalization_type="LN",
            device=options["device"],
            dtype=getattr(torch, options["dtype"]),
        )
    ).eval()
    cache_activations_runner.load_model = lambda **_: model
    dataset = Dataset.from_dict({"input_ids": rows})
    buffer_bytes = rows.size * options["d_model"] * 2
    for _ in sys.stdin:
        with tempfile.TemporaryDirectory() as out:
            config = CacheActivationsRunnerConfig(
                dataset_path="",
                model_name="",
                model_batch_size=rows_per_batch,
                hook_name=f"blocks.{layer}.hook_resid_post",
                d_in=options["d_model"],
                training_tokens=rows.size,
                context_size=rows.shape[1],
                new_cached_activations_path=out,
                shuffle=False,
                dtype="float16",
                device=options["device"],
                buffer_size_gb=(buffer_bytes + 1) / 1e9,
                prepend_bos=False,
                streaming=False,
            )
            runner = CacheActivationsRunner(config, override_dataset=dataset)
            wall, cpu = time.perf_counter(), time.process_time()
            written = runner.run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            assert len(written) == len(rows), f"{len(written)} of {len(rows)} rows written"
        sys.stdout.write(f"{wall} {cpu}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
