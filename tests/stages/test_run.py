"""One undisturbed run: what it leaves behind is what the outside relies on, and it repeats to the bit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from raysae.pipeline import run
from raysae.stages.progress import Reporter
from raysae.stages.verify import verify
from raysae.store import ActivationStore, Ledger, Manifest, TokenStore
from raysae.types import HookPoint, Split
from raysae.types.loading import load
from tests.runs import hashes


def test_the_run_folder_has_the_files_others_read(undisturbed: Path) -> None:
    for name in (
        "corpus",
        "tokens",
        "labels",
        "activations/main",
        "activations/random_model",
        "sae/main/0",
        "sweep",
        "metrics",
    ):
        assert Manifest.exists(undisturbed / name), name
    for name in ("protocol.json", "verdict.json", "report.html"):
        assert (undisturbed / name).is_file(), name
    assert (undisturbed.parent / "ledger.jsonl").is_file()


def test_the_verdict_has_its_keys_and_no_number_is_missing_its_reason(undisturbed: Path) -> None:
    verdict = json.loads((undisturbed / "verdict.json").read_text())
    assert verdict["outcome"] in ("GO", "NO_GO", "INCONCLUSIVE")
    assert verdict["mode"] == "exploratory"
    assert verdict["protocol_sha256"] == json.loads((undisturbed / "protocol.json").read_text())["sha256"]
    assert set(verdict["criteria"]) == {
        "reconstruction", "sparsity", "fidelity", "alignment", "causal_interchange", "causal_attribution",
    }  # fmt: skip
    for row in verdict["criteria"].values():
        assert {"outcome", "reason_code", "value", "interval", "threshold", "direction", "unit", "n", "nulls"} <= set(
            row
        )
        assert row["outcome"] != "GO", "two seeds are never enough"
        assert (row["reason_code"] is None) == (row["outcome"] == "NO_GO")
    assert set(verdict["criteria"]["causal_interchange"]["nulls"]) == {
        "random_model", "permuted_labels", "matched_latents", "random_direction", "shuffled_decoder",
    }  # fmt: skip
    assert set(verdict["criteria"]["causal_attribution"]["nulls"]) == {
        "random_model", "matched_latents", "random_direction", "shuffled_decoder",
    }  # fmt: skip


def test_the_ledger_knows_seed_versions_tokens_bytes_and_seconds(undisturbed: Path) -> None:
    (record,) = Ledger(undisturbed.parent / "ledger.jsonl").records()
    assert record.seeds["experiment"] == 0
    assert len(set(record.seeds.values()) - {0}) == len(record.seeds) - 2, "two consumers share a seed"
    assert {"ray", "torch", "transformers", "python", "raysae"} <= set(record.versions)
    assert record.tokens == 2 * Manifest.read(undisturbed / "tokens").extra["tokens"]
    assert record.bytes_written > 0
    assert {"ingest", "tokenize", "capture", "sweep", "train", "evaluate"} <= set(record.seconds)


def test_every_token_of_the_text_has_one_activation_in_each_arm(undisturbed: Path) -> None:
    tokens = TokenStore(undisturbed / "tokens")
    for arm in ("main", "random_model"):
        store = ActivationStore(undisturbed / "activations" / arm, tuple(Split))
        for block in tokens.blocks():
            expected = [
                (record, position, token)
                for record, ids, _ in tokens.documents(block)
                for position, token in enumerate(ids.tolist())
            ]
            rows = pq.read_table(
                store.folder / f"{block.name}.parquet", columns=["record", "position", "token_id"]
            ).to_pylist()
            assert [(row["record"], row["position"], row["token_id"]) for row in rows] == expected


def test_no_problem_is_on_two_sides(undisturbed: Path) -> None:
    rows = [
        row
        for block in Manifest.read(undisturbed / "corpus").blocks
        for row in _records(undisturbed / "corpus" / block.file)
    ]
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["question"] + (row["cot"] or ""), set()).add(row["split"])
    assert all(len(splits) == 1 for splits in sides.values())
    assert {row["split"] for row in rows} == {"TRAIN", "FIT", "TEST"}
    assert len({row["record_id"] for row in rows}) == len(rows) == 600


def _records(path: Path) -> list[dict[str, object]]:
    return pq.read_table(path).to_pylist()


def test_the_captured_tensor_is_what_the_model_computes(undisturbed: Path) -> None:
    import torch

    from raysae.models.load import load_model
    from raysae.types.experiment import ModelConfig

    tokens = TokenStore(undisturbed / "tokens")
    store = ActivationStore(undisturbed / "activations" / "main")
    block = tokens.blocks(Split.FIT)[0]
    found = store.read(
        next(b for b in store.blocks(Split.FIT) if b.name == block.name), HookPoint(layer=1, site="resid_post")
    )
    model = load_model(ModelConfig(name="tiny-cot"))
    seen: list[torch.Tensor] = []
    model.transformer.h[1].register_forward_hook(lambda module, args, output: seen.append(output))
    first = 0
    for _, ids, _ in list(tokens.documents(block))[:5]:
        with torch.no_grad():
            model(torch.from_numpy(ids.astype(np.int64))[None])
        reference = seen[-1][
            0
        ].numpy()  # the block's own output: not `hidden_states[-1]`, which has passed the final norm
        assert np.allclose(found.activations[first : first + len(ids)], reference, rtol=2e-3, atol=2e-3)
        first += len(ids)


def test_pyarrow_pandas_and_polars_read_a_captured_block(undisturbed: Path) -> None:
    block = Manifest.read(undisturbed / "activations" / "main").blocks[0]
    path = undisturbed / "activations" / "main" / block.file
    column = "layers.1.resid_post"
    by_arrow = np.stack(pq.read_table(path)[column].to_pylist()).astype(np.float32)
    by_pandas = np.stack(list(pd.read_parquet(path)[column])).astype(np.float32)
    by_polars = np.asarray(pl.read_parquet(path)[column].to_list(), np.float32)
    assert by_arrow.shape == (block.rows, 64)
    assert (by_arrow == by_pandas).all()
    assert (by_arrow == by_polars).all()


def test_the_sweep_chose_by_its_rule_and_training_followed(undisturbed: Path) -> None:
    trials = json.loads((undisturbed / "sweep" / "sweep.json").read_text())["trials"]
    (chosen,) = [trial for trial in trials if trial["chosen"]]
    assert chosen["margin"] == max(trial["margin"] for trial in trials)
    config = json.loads((undisturbed / "sae" / "main" / "0" / "cfg.json").read_text())
    assert config["d_sae"] == 64 * chosen["expansion"]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    seed: int, undisturbed: Path, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSAE_LOCAL", "1")
    extra = ["sweep.trials=0", "protocol.nulls=[]", "protocol.criteria=[reconstruction]", "train.steps=40"]
    ends = {}
    for name in ("a", "b"):
        chosen = seed if name == "b" else 0
        run(load(tiny_config, [f"out={tmp_path}", f"name={name}", f"seed={chosen}", *extra]), Reporter(), "train")
        ends[name] = hashes(tmp_path / name, "sae")
    assert len(set(ends["a"].values())) == len(ends["a"]), "two SAE seeds of one run are equal"
    same = [ends["a"][path] == ends["b"][path] for path in ends["a"] if path.endswith(".safetensors")]
    assert same == [seed == 0] * 2


@pytest.mark.parametrize("l1", [0.0, 0.03])
def test_relu_goes_the_whole_road_and_a_dense_code_is_void(
    l1: float, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSAE_LOCAL", "1")
    sweep = ["sae.architecture=relu", f"sweep.l1=[{l1}]", "sweep.expansion=[2]", "sweep.trials=1", "train.steps=60"]
    judged = ["protocol.criteria=[reconstruction,sparsity]", "protocol.nulls=[random_dictionary]"]
    verdict = run(load(tiny_config, [f"out={tmp_path}", *sweep, *judged]), Reporter())
    assert verdict is not None
    config = json.loads((tmp_path / "tiny" / "sae" / "main" / "0" / "cfg.json").read_text())
    assert config["architecture"] == "standard"
    codes = {str(row.reason_code) for row in verdict.criteria.values()}
    if l1 == 0:
        assert codes == {"VOID"}, "an L0 beyond its cap must void both rows"


def test_verify_finds_nothing_in_an_untouched_run(undisturbed: Path) -> None:
    assert verify(undisturbed) == []


def test_verify_names_a_manifest_that_is_cut_in_half(undisturbed: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(undisturbed, tmp_path / undisturbed.name)
    shutil.copy(undisturbed.parent / "ledger.jsonl", tmp_path)
    broken = folder / "activations" / "main" / "manifest.json"
    broken.write_text('{"half":')
    (problem,) = verify(folder)
    assert str(broken) in problem
