"""Transfer between two runs: what one's SAEs explain of the other's TEST, and which other run is accepted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raysae.saes import BatchTopK, SparseAutoencoder, build, checkpoint
from raysae.stages.court import Court
from raysae.stages.dictionaries import arms
from raysae.stages.exhibits import Evidence
from raysae.stages.exhibits.transfer import NO_OTHER_RUN, NOTHING_LEFT, TRANSFER, at_most, explained
from raysae.store import Manifest, describe_file, read_records
from raysae.types import Metric, Reason
from raysae.types.loading import load
from tests.runs import copy_before, in_process

Run = tuple[list[str], Path]
"""The arguments of the run that judges, and its folder."""


@pytest.fixture(scope="module")
def judging(tiny_config: Path, undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on other text than `undisturbed`, which it judges, with SAEs of the size that the sweep chose there."""
    out = tmp_path_factory.mktemp("judging")
    head = checkpoint.header(undisturbed / "sae" / "main" / "0")
    how = [
        str(tiny_config), f"out={out}", "name=judge", "seed=1", "sweep.trials=0", "train.steps=200",
        f"sae.expansion={head.d_sae // head.d_in}", f"sae.k={head.k}", "capture.hookpoints=[layers.1.resid_post]",
        "protocol.criteria=[transfer]", "protocol.nulls=[random_dictionary,frozen_decoder,pca]",
        "protocol.observations=[]", f"protocol.transfer_from={undisturbed}",
    ]  # fmt: skip
    assert in_process("decide", *how).returncode in (3, 4)
    return how, out / "judge"


def court_of(judging: Run, *extra: str) -> Court:
    (config, *overrides), _ = judging
    return Court(load(Path(config), [*overrides, *extra]))


def measured(court: Court) -> Metric:
    """Written and read back as `evaluate` does."""
    shown: dict[str, list[dict]] = {arm: [] for arm in arms(court.experiment)}
    for arm, seeds in shown.items():
        for number in court.experiment.train.seed_numbers:
            found = TRANSFER.examine(court.examine(arm, number))
            seeds.append({} if found is None else {"transfer": json.loads(json.dumps(found))})
    return TRANSFER.summarise(Evidence(court.experiment, court.protocol, shown))


def rewritten(run: Path, change: Callable[[SparseAutoencoder], SparseAutoencoder]) -> Path:
    """The run with other SAEs in the place of its own, manifests and all: what another training would have left."""
    for folder in (run / "sae" / "main").iterdir():
        old = Manifest.read(folder)
        checkpoint.save(change(checkpoint.load(folder)), folder, checkpoint.provenance(folder))
        (folder / "manifest.json").unlink()
        blocks = tuple(describe_file(folder / block.file, block.fingerprint) for block in old.blocks)
        old.model_copy(update={"blocks": blocks}).write(folder)
    return run


def untrained(sae: SparseAutoencoder) -> SparseAutoencoder:
    return build(sae.architecture, sae.d_in, sae.d_sae, sae.k, 7)


@pytest.fixture
def copy(undisturbed: Path, tmp_path: Path) -> Path:
    """`undisturbed` elsewhere, to be changed."""
    return Path(shutil.copytree(undisturbed, tmp_path / "other"))


def test_explained_energy_is_what_a_naive_loop_finds(judging: Run):
    exam = court_of(judging).examine("main", 0)
    found, l0 = explained(exam, exam.sae)
    latents = exam.sae.encode(exam.test.x)
    x_hat = exam.sae.decode(latents).detach()
    for number in (0, 7, exam.test.documents - 1):
        x, y = (rows[exam.test.document == number].double() for rows in (exam.test.x, x_hat))
        naive = sum(float((a - exam.mean).square().sum() - (a - b).square().sum()) for a, b in zip(x, y, strict=True))
        assert found[number] == pytest.approx(naive, rel=1e-4)
    assert l0 == pytest.approx(float((latents != 0).sum() / len(latents)))


def test_a_run_is_judged_with_its_nulls_undefined(judging: Run):
    metric = Metric.model_validate(
        json.loads((judging[1] / "metrics" / "metrics.json").read_text())["criteria"]["transfer"]
    )
    assert metric.value is not None and metric.interval is not None and metric.seeds == 2
    assert [gate.passed for gate in metric.gates] == [True, True]
    assert set(metric.nulls) == {"random_dictionary", "frozen_decoder", "pca"}
    assert all(null.mean is None and null.note.startswith("undefined") for null in metric.nulls.values())
    assert metric.also["raw_ratio"] is not None and metric.also["raw_ratio"] > metric.value, "the raw ratio flatters"
    assert metric == measured(court_of(judging)), "the same from the folder"


def test_the_share_of_the_nulls_error_that_is_removed_is_the_ratio(judging: Run):
    """The total variance cancels: T is how much of the best null's error both remove."""
    court = court_of(judging)
    assert court.other is not None
    seeds = []
    for number in (0, 1):
        main, pca = court.examine("main", number), court.examine("pca", number)
        saes = (at_most(court.other.sae(number), main), main.sae, pca.sae)
        x = main.test.x
        a, b, null = (float((x - sae.decode(sae.encode(x)).detach()).square().sum()) for sae in saes)
        seeds.append((null - a) / (null - b))
    assert measured(court).value == pytest.approx(np.mean(seeds), rel=1e-3)


def test_saes_of_the_same_weights_transfer_wholly(judging: Run):
    metric = measured(court_of(judging, f"protocol.transfer_from={judging[1]}"))
    assert metric.value == pytest.approx(1) and metric.also["documents_left_out"] == 0


def test_untrained_saes_do_not_transfer(judging: Run, copy: Path):
    metric = measured(court_of(judging, f"protocol.transfer_from={rewritten(copy, untrained)}"))
    assert metric.value is not None and metric.value < 0


def test_an_sae_that_fires_more_here_is_cut_back(judging: Run):
    exam = court_of(judging).examine("main", 0)
    eager = checkpoint.load(judging[1] / "sae" / "main" / "0")
    assert isinstance(eager, BatchTopK)
    eager.threshold.fill_(0)
    l0 = [
        float((sae.encode(exam.fit.x) != 0).sum() / len(exam.fit.x)) for sae in (eager, at_most(eager, exam), exam.sae)
    ]
    assert l0[0] > 1.05 * l0[2] and l0[1] == pytest.approx(l0[2], rel=1e-3)
    assert at_most(exam.sae, exam) is exam.sae


def test_a_missing_floor_is_named(judging: Run):
    metric = measured(court_of(judging, "protocol.nulls=[pca]"))
    failed = next(gate for gate in metric.gates if not gate.passed)
    assert failed.failure == Reason.NOT_RUN and "random_dictionary, frozen_decoder" in failed.detail


def test_without_another_run_it_says_what_to_type(judging: Run):
    metric = measured(court_of(judging, "protocol.transfer_from=null"))
    assert metric.value is None and metric.not_run == NO_OTHER_RUN


@pytest.mark.parametrize("blocks", [1, None])
def test_documents_the_other_run_was_trained_on_are_left_out(judging: Run, copy: Path, blocks: int | None):
    mine, corpus = judging[1] / "corpus", copy / "corpus"
    sealed = json.loads((judging[1] / "protocol.json").read_text())["protocol"]
    assert any("the other run's TRAIN" in rule for rule in sealed["exclusions"])
    leaked = [block for block in Manifest.read(mine).blocks if block.facts["split"] == "TEST"][:blocks]
    known = {record.record_id for block in leaked for record in read_records(mine, block)}
    theirs = Manifest.read(corpus)
    for block in leaked:
        shutil.copy(mine / block.file, corpus)
    added = tuple(block.model_copy(update={"facts": {**block.facts, "split": "TRAIN"}}) for block in leaked)
    text = theirs.model_copy(update={"blocks": (*theirs.blocks, *added)}).model_dump_json()
    (corpus / "manifest.json").write_text(text)
    court = court_of(judging, f"protocol.transfer_from={copy}")
    metric = measured(court)
    judged = [name for name in court.examine("main", 0).test.records if name not in known]
    assert metric.n == len(judged)
    if blocks is None:
        assert metric.not_run == NOTHING_LEFT
    else:
        assert metric.value is not None and metric.also["documents_left_out"] == len(known) > 0


def test_changed_weights_of_the_other_run_are_refused(judging: Run, copy: Path, tmp_path: Path):
    how, folder = judging
    mine = copy_before("decide", folder, tmp_path)
    here = [*how, f"out={tmp_path}", f"protocol.transfer_from={copy}"]
    assert in_process("decide", *here).returncode in (3, 4), "a copy holds what was sealed"
    (mine / "record.json").unlink()
    weights = copy / "sae" / "main" / "1" / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    found = in_process("decide", *here)
    assert found.returncode == 5
    assert "other/sae/main/1/sae_weights.safetensors: sha256 is" in found.stderr and found.stderr.count("\n") == 1


@pytest.mark.parametrize("finished", [True, False])
def test_another_run_than_the_sealed_one_is_refused(judging: Run, copy: Path, tmp_path: Path, finished: bool):
    how, folder = judging
    mine = copy_before("decide", folder, tmp_path)
    if finished:
        for name in ("verdict.json", "record.json"):
            shutil.copy(folder / name, mine)
        (mine / "report.html").write_text("")
    rewritten(copy, untrained)
    for named in (f"protocol.transfer_from={copy}", "protocol.transfer_from=null"):
        found = in_process("run", *how, f"out={tmp_path}", named)
        assert found.returncode == 5 and "the sealed protocol names" in found.stderr
    if not finished:
        return
    how = [*how, f"out={tmp_path}", f"protocol.transfer_from={copy}"]
    assert in_process("amend", *how, "--reason", "the other was retrained").returncode == 0
    assert in_process("decide", *how).returncode in (3, 4)
    assert "EXPLORATORY" in (mine / "verdict.json").read_text(), "TEST had been opened"


def without(name: str) -> Callable[[Path], object]:
    return lambda run: shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "override", "said"),
    [
        (without("experiment.json"), "", "is not a run folder"),
        (without("record.json"), "", "is not finished, it has no record.json"),
        (without("corpus"), "", "it has no corpus/manifest.json"),
        (without("sae/main/1"), "", "has no SAE of seed 1; allowed: among [0]; type train.seeds=[0]"),
        (None, "train.seeds=3", "has no SAE of seed 2; allowed: among [0, 1]; type train.seeds=[0,1]"),
        (None, "sae.expansion=3", "sae/main/0 has d_sae "),
        (None, "sae.k=5", "has k 4; allowed: 5, as here; type sae.k=4"),
        (None, "sae.architecture=topk", "has architecture batch_topk; allowed: topk"),
        (None, "capture.hookpoints=[layers.0.resid_post]", "type sae.hookpoint=layers.1.resid_post"),
        (None, "model.randomize=true", "studied another model, its randomize is false; allowed: true"),
        (None, "sweep.trials=2", "type sweep.trials=0"),
        (None, "protocol.criteria=[reconstruction]", "type protocol.criteria=[reconstruction,transfer]"),
    ],
)
def test_a_run_that_cannot_be_judged_here_is_bad_input(
    judging: Run, undisturbed: Path, tmp_path: Path, spoil: Callable[[Path], object] | None, override: str, said: str
):
    other = undisturbed
    if spoil is not None:
        other = Path(shutil.copytree(undisturbed, tmp_path / "other", ignore=shutil.ignore_patterns("activations")))
        spoil(other)
    extra = [f"out={tmp_path / 'runs'}", f"protocol.transfer_from={other}", *([override] if override else [])]
    found = in_process("run", *judging[0], *extra)
    assert found.returncode == 2, found.stderr
    assert found.stderr.count("\n") == 1 and said in found.stderr
    assert not (tmp_path / "runs").exists()


def test_a_run_cannot_judge_itself(judging: Run, tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(judging[1])
    found = in_process("run", *judging[0], f"protocol.transfer_from={link}")
    assert found.returncode == 2 and "is the folder of this run" in found.stderr
