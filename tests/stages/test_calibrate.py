"""`raysae calibrate`: the same rates however the work is spread, a figure per criterion, and an exit status that says
when the court is wrong too often."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from raysae.falsification import source_sha256
from raysae.falsification.simulation import SIMULATIONS
from raysae.stages import calibrate as stage
from raysae.stages.progress import Reporter
from tests.runs import in_process


def calibrated(actors: int = 1, simulations: int = 14) -> dict:
    with Reporter().stage("calibrate") as progress:
        found = stage.calibrate(simulations, progress, seed=3, criteria=["sparsity"], actors=actors)
    return found | {"seconds": 0}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("actors", [1, 2, 4])
def test_any_number_of_actors_finds_the_same_as_this_process(monkeypatch: pytest.MonkeyPatch, actors: int) -> None:
    through_ray = calibrated(actors)
    monkeypatch.setenv("RAYSAE_LOCAL", "1")
    assert through_ray == calibrated()


def test_the_file_holds_the_rates_and_a_figure_stands_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSAE_LOCAL", "1")
    path = tmp_path / "new" / "court.json"
    result = in_process("calibrate", "--simulations", "12", "--criteria", "sparsity", "--json", str(path))
    assert result.returncode == 0, result.stderr
    found = json.loads(path.read_text())
    assert found["false_go_rate"] == {"sparsity": found["criteria"]["sparsity"]["worlds"]["threshold"]["rate"]}
    assert found["power"] == {"sparsity": 1.0}
    assert (found["simulations"], found["seed"], found["source_sha256"]) == (12, 0, source_sha256())
    assert "GO in 12 of 12" in result.stdout
    svg = ElementTree.parse(path.with_name("court-sparsity.svg")).getroot()
    texts = [node.text or "" for node in svg.iter() if node.tag.endswith("text")]
    assert "sparsity: GO needs ≥ 0.9 fraction of alive latents" in texts
    assert any(text.startswith("Planted truth: GO in 12 of 12") for text in texts)


def test_a_court_that_is_wrong_too_often_exits_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSAE_LOCAL", "1")
    worlds = SIMULATIONS["sparsity"]
    believed = {**worlds, "threshold": worlds["truth"]._replace(claim_holds=False)}
    monkeypatch.setitem(SIMULATIONS, "sparsity", believed)
    result = in_process("calibrate", "--simulations", "8", "--criteria", "sparsity")
    assert result.returncode == 3
    assert "OUT OF BOUNDS" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--simulations", "0"], "simulations=0"),
        (["--actors", "0"], "actors=0"),
        (["--criteria", "beauty"], "criteria holds 'beauty'"),
        (["--json", "court.txt"], "json=court.txt"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments: list[str], said: str) -> None:
    result = in_process("calibrate", *arguments)
    assert result.returncode == 2
    assert len(result.stderr.strip().split("\n")) == 1 and said in result.stderr
    assert result.stderr.count("; ") >= 2


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_court_is_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """SCIENCE 9: at most 27 false GO in 400 for every criterion, planted truth in at least 57 of 60."""
    with Reporter().stage("calibrate") as progress:
        found = stage.calibrate(400, progress, actors=2)
    assert found["within"], {
        name: {kind: world["go"] for kind, world in row["worlds"].items()} for name, row in found["criteria"].items()
    }
