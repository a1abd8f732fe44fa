"""The command line as a stranger meets it: exit statuses, one line on bad input, and nothing left behind."""

import json
import pickle
import shutil
from pathlib import Path

import pytest

from raysae.errors import BadInput
from tests.conftest import ROOT
from tests.runs import in_process, raysae

LINES = [
    {"question": f"What is {i} + 1?", "answer": f"{i} + 1 = <<{i}+1={i + 1}>>{i + 1}\n#### {i + 1}"} for i in range(40)
]


def jsonl(folder: Path, *lines: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def yaml(tmp_path: Path, text: str) -> str:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    return str(path)


def check_refused(result, said: str, out: Path) -> None:
    """Exit status 2, one line with its three parts, no trace, nothing left."""
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().split("\n")
    assert len(lines) == 1, result.stderr
    assert said in lines[0]
    assert lines[0].count("; ") >= 2
    assert not out.exists(), f"left behind: {list(out.rglob('*'))}"


@pytest.mark.parametrize(
    ("text", "override", "said"),
    [
        ("sea: 1\n", "", "unknown key 'sea'"),
        ("seed: 1\nseed: 2\n", "", "duplicate key 'seed'"),
        ("", "", "holds nothing"),
        ("seed: !!python/none 1\n", "", "without tags"),
        ("phases: [a.yaml]\nseed: 1\n", "", "lists no phases"),
        ("beside: {x: {nokey: 3}}\n", "", "unknown key 'beside.x.nokey'"),
        ("{}\n", "train.lr=.inf", "train.lr=inf; allowed: a finite number"),
        ("{}\n", "corpus.name=[]", "corpus.name=[]"),
        ("{}\n", f"train.seeds={10**23}", f"raysae: train.seeds={10**23}"),
        ("{}\n", "capture.hookpoints=[layers.9.resid_post]", "layers.9.resid_post"),
        ("{}\n", "capture.hookpoints=[layers.0.head]", "layers.0.head"),
        ("{}\n", "capture.hookpoints=[layers.1.attn_out]", "causal_interchange is to be measured at layers.1.attn_out"),
        (
            "protocol: {criteria: [leakage], observations: [verification]}\n",
            "capture.hookpoints=[layers.1.attn_out]",
            "verification is to",
        ),
        (
            "protocol: {criteria: [causal_interchange], nulls: [wrong_site]}\n",
            "",
            "wrong_site with corpus.name=arithmetic_cot",
        ),
        ("protocol: {criteria: [stability]}\n", "capture.hookpoints=[layers.1.attn_out]", "stability is to"),
        ("{}\n", "model.name=gpt5", "gpt5"),
        ("{}\n", "model.path=nowhere", "nowhere"),
        ("{}\n", "corpus.name=gsm9k", "gsm9k"),
        ("{}\n", "sae.architecture=vanilla", "vanilla"),
        ("{}\n", "sae.k=513", "513"),
        ("{}\n", "protocol.criteria=[beauty]", "beauty"),
        ("{}\n", "protocol.nulls=[n0]", "n0"),
        ("{}\n", "sweep.trials=99", "sweep.trials=99"),
        ("{}\n", "tokenizer.ctx_len=100000", "tokenizer.ctx_len=100000"),
        ("corpus: {name: gsm8k}\n", "corpus.path=nowhere.jsonl", "nowhere.jsonl"),
        ("{}\n", "corpus.records=2", "empty"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path, text: str, override: str, said: str) -> None:
    out = tmp_path / "runs"
    result = in_process("run", yaml(tmp_path, text), f"out={out}", *([override] if override else []))
    check_refused(result, said, out)


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/raysae"])
def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("mine")
    result = in_process("run", yaml(tmp_path, "{}\n"), f"out={tmp_path / out}")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert f"out={tmp_path / out} cannot be written to" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "x.yaml"]
    below = tmp_path / out / "rates.json"
    for command in (("calibrate", "--json", str(below)), ("pretrain", "tiny-dyck", str(below.with_suffix("")))):
        refused = in_process(*command)
        assert refused.returncode == 2 and "cannot be written to" in refused.stderr


def test_one_experiment_is_wanted_where_a_file_lists_phases(tmp_path: Path) -> None:
    result = in_process("protocol", yaml(tmp_path, "phases: [a.yaml]\n"))
    check_refused(result, "lists phases", tmp_path / "runs")


def test_a_missing_file_is_refused_from_a_shell_too() -> None:
    result = raysae("run", "nowhere.yaml")
    assert result.returncode == 2
    assert len(result.stderr.strip().split("\n")) == 1
    assert "nowhere.yaml: no such file" in result.stderr


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "no usable record"),
        (["not json", '{"question": 1}', "[]"], "no usable record"),
        ([json.dumps(line) for line in LINES[:1]], "empty"),
    ],
)
def test_a_corpus_with_nothing_to_use_is_refused(tmp_path: Path, lines: list[str], said: str) -> None:
    out = tmp_path / "runs"
    corpus = jsonl(tmp_path / "corpus", *lines)
    config = yaml(tmp_path, "corpus: {name: gsm8k}\nmodel: {name: tiny-gsm8k}\n")
    check_refused(in_process("run", config, f"out={out}", f"corpus.path={corpus}"), said, out)


def test_malformed_lines_are_quarantined_counted_and_the_rest_is_used(tmp_path: Path) -> None:
    lines = [json.dumps(line) for line in LINES]
    corpus = jsonl(tmp_path / "corpus", *lines[:20], "{broken", *lines[20:], '{"question": "no answer"}')
    config = yaml(tmp_path, "corpus: {name: gsm8k, splits: {fit: 0.3, test: 0.3}}\nmodel: {name: tiny-gsm8k}\n")
    result = in_process("ingest", config, f"out={tmp_path / 'runs'}", f"corpus.path={corpus}")
    assert result.returncode == 0, result.stderr
    manifest = json.loads((tmp_path / "runs" / "x" / "corpus" / "manifest.json").read_text())
    assert manifest["extra"]["quarantined"] == 2
    assert sum(manifest["extra"]["records"].values()) == 40
    (name,) = manifest["extra"]["quarantine_files"]
    rows = [json.loads(line) for line in (tmp_path / "runs" / "x" / "corpus" / name).read_text().splitlines()]
    assert [row["line"] for row in rows] == [21, 42]
    assert all(row["reason"] for row in rows)


def test_a_finished_run_is_recognised(undisturbed: Path, tiny_config: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed.parent, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    result = in_process("run", str(tiny_config), f"out={tmp_path / 'out'}")
    assert result.returncode == 0, result.stderr
    assert "nothing to do" in result.stdout
    assert "INCONCLUSIVE" in result.stdout or "NO_GO" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_another_configuration_never_mixes_with_a_run_folder(
    undisturbed: Path, tiny_config: Path, tmp_path: Path
) -> None:
    shutil.copytree(undisturbed, tmp_path / "tiny")
    result = in_process("run", str(tiny_config), f"out={tmp_path}", "sae.k=5")
    assert result.returncode == 2
    assert "sae.k: 4 there, 5 now" in result.stderr
    assert "name=tiny-2" in result.stderr


@pytest.mark.parametrize("key", ["train.gpu=true", "capture.gpus_per_actor=0.5"])
def test_a_process_without_a_gpu_does_not_train_on_its_cores_instead(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSAE_LOCAL", "1")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = in_process("run", yaml(tmp_path, "name: x\n"), key, f"out={tmp_path / 'out'}")
    check_refused(result, f"{key.partition('=')[0]}", tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["runn"], "No such command 'runn'"),
        (["run"], "Missing argument 'config'"),
        (["run", "x.yaml", "--foo"], "No such option: --foo"),
        (["calibrate", "--simulations", "x"], "'--simulations'"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_line_too(line: list[str], said: str, tmp_path: Path) -> None:
    check_refused(in_process(*line), said, tmp_path / "out")


def test_a_refusal_keeps_its_parts_on_its_way_between_processes() -> None:
    error = BadInput("a; b", "c", "d")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "a; b; c; d" and (again.arrived, again.allowed, again.cure) == ("a; b", "c", "d")


def test_gate_turns_the_outcome_into_the_exit_status(undisturbed: Path, tiny_config: Path) -> None:
    outcome = json.loads((undisturbed / "verdict.json").read_text())["outcome"]
    result = in_process("run", str(tiny_config), f"out={undisturbed.parent}", "--gate")
    assert result.returncode == {"GO": 0, "NO_GO": 3, "INCONCLUSIVE": 4}[outcome]


def test_verify_names_a_flipped_byte_and_exits_5(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed.parent, tmp_path / "out")
    folder = tmp_path / "out" / "tiny"
    assert in_process("verify", str(folder)).returncode == 0
    victim = next((folder / "activations" / "main").glob("*.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    result = in_process("verify", str(folder))
    assert result.returncode == 5
    assert str(victim) in result.stderr


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("protocol.json", '"threshold": 0.95', '"threshold": 0.15'),
        ("verdict.json", '"outcome": "INCONCLUSIVE"', '"outcome": "GO"'),
        ("../ledger.jsonl", '"outcome":"', '"outcome":"X'),
    ],
)
def test_verify_sees_an_edited_threshold_verdict_or_ledger(
    undisturbed: Path, tmp_path: Path, file: str, old: str, new: str
) -> None:
    shutil.copytree(undisturbed.parent, tmp_path / "out")
    path = tmp_path / "out" / "tiny" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    result = in_process("verify", str(tmp_path / "out" / "tiny"))
    assert result.returncode == 5
    assert path.name in result.stderr


@pytest.mark.parametrize("command", ["models", "datasets"])
def test_the_tables_print(command: str) -> None:
    result = in_process(command)
    assert result.returncode == 0
    assert {"models": "tiny-cot", "datasets": "gsm8k"}[command] in result.stdout


def test_the_protocol_is_shown_before_anything_is_run(tiny_config: Path, tmp_path: Path) -> None:
    result = in_process("protocol", str(tiny_config), f"out={tmp_path / 'none'}")
    assert result.returncode == 0
    assert "causal_interchange" in result.stdout
    assert not (tmp_path / "none").exists()


def test_the_ledger_prints(undisturbed: Path) -> None:
    result = in_process("ledger", str(undisturbed.parent))
    assert result.returncode == 0
    assert "tiny" in result.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_begins_with_the_command_that_runs_it(path: Path) -> None:
    from raysae.types.loading import load_phases

    place = path.relative_to(ROOT)
    first, _ = path.read_text().split("\n", 1)
    assert first.startswith("# raysae ") and f"raysae run {place}" in first
    last = load_phases(path)[-1].name
    assert last == "_".join(place.with_suffix("").parts[1:]) or path.stem == "phases"


def test_the_readme_holds_its_two_commands() -> None:
    lines = (ROOT / "README.md").read_text().split("\n")
    assert "pip install -e . && raysae run configs/quickstart.yaml" in lines
    assert "pip install -e '.[test]' && pytest" in lines
