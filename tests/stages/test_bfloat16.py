"""Four of the six models of phase 4 are read in bfloat16: what edits a model does so in the model's own numbers."""

import json
from pathlib import Path

import pytest

from tests.runs import in_process

ASKED = {
    "tiny": [
        "protocol.criteria=[fidelity,causal_interchange,causal_attribution]",
        "protocol.observations=[step_control]",
        "protocol.permutations=20",
        "protocol.pairs=5",
    ],
    "screened": [
        "protocol.criteria=[stability]",
        "protocol.observations=[hook_sweep]",
        "capture.hookpoints=[layers.0.resid_post,layers.1.mlp_hidden]",
        "protocol.attribution_sites=2",
        "protocol.attribution_window=1",
        "train.documents=own",
        "train.seeds=3",
        "tokenizer.block_tokens=1024",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ASKED))
def test_everything_that_pushes_a_model_takes_one_in_bfloat16(name: str, tiny_config: Path, tmp_path: Path) -> None:
    how = [
        str(tiny_config), f"out={tmp_path}", "model.dtype=bfloat16", "capture.hookpoints=[layers.0.resid_post]",
        "protocol.nulls=[]", "protocol.test_tokens=1500", "protocol.test_documents=10", "protocol.bootstrap=200",
    ]  # fmt: skip
    done = in_process("run", *how, *ASKED[name])
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "tiny" / "metrics" / "metrics.json").read_text())
    for kind, asked in (("criteria", ASKED[name][0]), ("observations", ASKED[name][1])):
        for one in asked.split("[")[1].rstrip("]").split(","):
            assert found[kind][one]["n"] > 0, found[kind][one]["not_run"]
