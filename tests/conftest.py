"""What many tests share: a tiny experiment, and one undisturbed run of it in this process."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is first imported, by whatever test that is
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in every actor; on arrays this small more threads only wait

ROOT = Path(__file__).parents[1]
GSM8K = ROOT / ".." / "shared" / "data" / "gsm8k"

TINY = """
name: tiny
corpus: {name: arithmetic_cot, records: 600, block_records: 100, splits: {fit: 0.2, test: 0.3}}
tokenizer: {block_tokens: 4000}
model: {name: tiny-cot}
capture: {hookpoints: [layers.1.resid_post, layers.0.mlp_out]}
sae: {architecture: batch_topk, expansion: 4, k: 4}
train: {steps: 80, batch_tokens: 256, seeds: 2, checkpoint_steps: 10}
sweep: {trials: 2, expansion: [2, 4], k: [4], steps: 30}
protocol:
  {permutations: 20, pairs: 20, bootstrap: 200, test_tokens: 6000, test_documents: 40,
   criteria: [reconstruction, sparsity, fidelity, alignment, causal_interchange, causal_attribution],
   attributed_latents: 14, attribution_sites: 4, observations: [hook_sweep],
   nulls: [random_model, random_dictionary, permuted_labels, matched_latents, random_direction, shuffled_decoder]}
"""


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment as a file."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def undisturbed(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the tiny experiment, every stage in this process."""
    from raysae.pipeline import run
    from raysae.stages.progress import Reporter
    from raysae.types.loading import load

    out = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSAE_LOCAL", "1")
        run(load(tiny_config, [f"out={out}"]), Reporter())
    return out / "tiny"
