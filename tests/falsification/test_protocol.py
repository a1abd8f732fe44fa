import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raysae.errors import BadInput, Refused
from raysae.falsification import (
    CRITERIA,
    NULLS,
    Protocol,
    l0_cap,
    power,
    power_before,
    read,
    refuse_underpowered,
    seal,
    source_sha256,
)
from raysae.falsification import protocol as protocol_module
from raysae.falsification.criterion import sweep_margin
from raysae.falsification.intervals import allowed_failures, minimum_detectable
from raysae.types import Experiment

Make = Callable[..., Protocol]


def refuse(protocol: Protocol) -> None:
    refuse_underpowered(protocol.mode, power(protocol))


def test_every_null_a_criterion_names_exists():
    for row in CRITERIA.values():
        assert set(row.voiding_nulls + row.informational_nulls) <= set(NULLS)
        assert row.min_seeds == (10 if row.name == "stability" else 0 if row.name.startswith("capture") else 5)


def test_the_smallest_numbers_of_units_are_those_that_can_pass():
    for name, threshold in (("alignment", 0.95), ("causal_interchange", 0.80), ("causal_attribution", 0.80)):
        n = CRITERIA[name].minimum_n
        assert (allowed_failures(threshold, n), allowed_failures(threshold, n - 1)) == (0, None)


def test_the_names_of_causal_criteria_begin_with_the_word():
    assert [name for name in CRITERIA if name.startswith("causal")] == [
        "causal_interchange",
        "causal_attribution",
    ]
    assert all(name == row.name for name, row in CRITERIA.items())


def test_a_sealed_protocol_reads_back_equal(tmp_path: Path, make_protocol: Make):
    protocol = make_protocol()
    sha256 = seal(protocol, tmp_path / "run" / "protocol.json")
    assert sha256 == protocol.sha256
    assert read(tmp_path / "run" / "protocol.json") == protocol
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["protocol.json"]


def test_a_seal_is_written_once(tmp_path: Path, make_protocol: Make):
    path = tmp_path / "protocol.json"
    seal(make_protocol(), path)
    before = path.read_bytes()
    seal(make_protocol(), path)
    with pytest.raises(Refused, match="never changed"):
        seal(make_protocol(bootstrap=4000), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("edit", ["threshold", "unknown key", "hash", "broken", "list"])
def test_an_edited_seal_is_refused(tmp_path: Path, make_protocol: Make, edit: str):
    path = tmp_path / "protocol.json"
    seal(make_protocol(), path)
    tree = json.loads(path.read_text())
    if edit == "threshold":
        tree["protocol"]["criteria"][0]["threshold"] = 0.2
    elif edit == "unknown key":
        tree["protocol"]["excuse"] = 1
    elif edit == "hash":
        tree["sha256"] = "0" * 64
    path.write_text({"broken": "{", "list": "[]"}.get(edit, json.dumps(tree)))
    with pytest.raises(Refused):
        read(path)


def test_a_missing_seal_is_refused(tmp_path: Path):
    with pytest.raises(Refused, match="no sealed protocol"):
        read(tmp_path / "protocol.json")


def test_anything_that_matters_changes_the_hash(make_protocol: Make):
    base = make_protocol()
    others = [
        make_protocol(bootstrap=3000),
        make_protocol(seeds=6),
        make_protocol(factors=199),
        make_protocol(nulls=["random_model"]),
        base.model_copy(update={"source_sha256": "other"}),
        base.model_copy(update={"splits": {"TEST": "other"}}),
    ]
    assert len({protocol.sha256 for protocol in [base, *others]}) == len(others) + 1
    assert make_protocol().sha256 == base.sha256


def test_no_number_in_the_seal_is_in_scientific_notation(tmp_path: Path, make_protocol: Make):
    protocol = make_protocol(alive_rate=1e-5)
    seal(protocol, tmp_path / "protocol.json")
    assert '"alive_rate": "0.00001"' in (tmp_path / "protocol.json").read_text()
    assert read(tmp_path / "protocol.json").alive_rate == 1e-5


def test_the_protocol_holds_the_code_and_the_detectable_effects(make_protocol: Make):
    protocol = make_protocol()
    assert protocol.source_sha256 == source_sha256()
    assert protocol.minimum_detectable["alignment"] == minimum_detectable(0.95, 200)
    assert protocol.planned_n("alignment") == 200
    assert {"numpy", "scipy", "torch"} <= set(protocol.versions)


def test_every_file_that_captures_trains_edits_and_measures_is_hashed_and_what_only_prints_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    package = tmp_path / "raysae"
    shutil.copytree(
        Path(protocol_module.__file__).parents[1], package, ignore=shutil.ignore_patterns("bundled", "__py*")
    )
    monkeypatch.setattr(protocol_module, "__file__", str(package / "falsification" / "protocol.py"))
    sealed, unchanged = source_sha256(), set()
    for name, path in {path.relative_to(package).parts[0]: path for path in package.rglob("*.py")}.items():
        before = path.read_bytes()
        path.write_bytes(before + b"# a word\n")
        unchanged |= {name} if source_sha256() == sealed else set()
        path.write_bytes(before)
    assert source_sha256() == sealed
    assert unchanged == {"report", "costs", "cli.py", "terminal.py", "__main__.py"}
    (package / "stages" / "court.py").rename(package / "stages" / "bench.py")
    assert source_sha256() != sealed, "the name is part of it"


def test_a_protocol_with_enough_of_everything_is_not_refused(make_protocol: Make):
    protocol = make_protocol()
    refuse(protocol)
    assert all(row.reachable and not row.obstacles for row in power(protocol))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": 4}, "reconstruction: 4 seeds, 5 needed; type train.seeds=5"),
        ({"factors": 58}, "alignment: 58 units .factor., at least 59 needed"),
        ({"factors": 60}, "alignment: 60 units .factor. show only a true rate of 0.996"),
        ({"units": 13}, "causal_interchange: 13 units"),
        ({"bootstrap": 1999}, "type protocol.bootstrap=2000"),
        ({"permutations": 199}, "type protocol.permutations=200"),
        ({"pairs": 150}, "type protocol.pairs=200"),
        ({"nulls": ["random_dictionary"]}, "add frozen_decoder to protocol.nulls"),
    ],
)
def test_a_hopeless_confirmatory_protocol_is_refused_with_its_cure(make_protocol: Make, changes: dict, said: str):
    with pytest.raises(Refused, match=said):
        refuse(make_protocol(**changes))
    refuse(make_protocol(mode="exploratory", **changes))


def test_unknown_criteria_and_nulls_are_bad_input(make_protocol: Make):
    with pytest.raises(BadInput, match="'beauty'; allowed: reconstruction"):
        make_protocol(criteria=["beauty"])
    with pytest.raises(BadInput, match="'coin'; allowed: random_model"):
        make_protocol(nulls=["coin"])
    with pytest.raises(BadInput, match="at least one"):
        make_protocol(criteria=[])


def test_criteria_of_capture_have_a_protocol_of_their_own(make_protocol: Make):
    protocol = make_protocol(criteria=["capture_latency", "capture_memory"], nulls=[])
    refuse(protocol)
    assert protocol.seeds == () and protocol.sae == "none is trained" and protocol.overhead is not None
    assert protocol.planned_n("capture_latency") == protocol.overhead.blocks == 30
    with pytest.raises(
        BadInput, match=r"capture_latency and reconstruction.*type protocol.criteria=\[capture_latency\]"
    ):
        make_protocol(criteria=["reconstruction", "capture_latency"])


def test_too_few_blocks_are_hopeless_before_anything_is_measured():
    experiment = Experiment.model_validate(
        {"name": "x", "overhead": {"blocks": 29}, "protocol": {"mode": "confirmatory", "criteria": ["capture_latency"]}}
    )
    with pytest.raises(Refused, match=r"capture_latency: 29 units .block., at least 30 needed"):
        refuse_underpowered("confirmatory", power_before(experiment))


def test_the_l0_cap_knows_the_truth_where_there_is_one():
    assert l0_cap(64) == pytest.approx(6.4)
    assert l0_cap(64, synthetic=True, k_true=4.0) == 5.0
    assert l0_cap(64, synthetic=True) == pytest.approx(6.4)


def test_the_sweep_prefers_any_trial_within_the_thresholds():
    good = sweep_margin(0.05, 0.95, 6.0, 6.4)
    assert good == pytest.approx(0.5)
    assert sweep_margin(0.01, 0.95, 6.5, 6.4) < 0 < good
    assert sweep_margin(0.11, 0.99, 3.0, 6.4) < 0
    assert sweep_margin(float("nan"), 0.99, 3.0, 6.4) == -float("inf")


def test_a_seal_does_not_hang_on_what_ray_and_setuptools_carry_along(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def packages() -> str:
        return protocol_module._packages_sha256.__wrapped__()

    before = packages()
    folders = {"setuptools/_vendor": "carried", "ray/thirdparty_files": "carried", "other/site-packages": "installed"}
    for folder, name in ((tmp_path / place, name) for place, name in folders.items()):
        (folder / f"{name}-1.0.dist-info").mkdir(parents=True)
        (folder / f"{name}-1.0.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
        assert (packages() == before) is (name == "carried")
