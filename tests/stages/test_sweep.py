"""What a sweep tries, how a search draws and a scheduler stops, and that going on changes nothing."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from raysae.errors import BadInput
from raysae.falsification.protocol import read
from raysae.stages import points
from raysae.stages.progress import Reporter
from raysae.stages.sweep import sweep
from raysae.types import Experiment
from raysae.types.loading import load

SEARCH = (
    "sweep.trials=6", "sweep.expansion=[2,3]", "sweep.k=[2,6]", "sweep.lr=[1e-3,1e-2]", "sweep.decorrelation=[0,1]",
    "sweep.probe=[0,0.1]", "sweep.architecture=[batch_topk,relu]", "sweep.steps=20",
)  # fmt: skip


@pytest.fixture
def swept(undisturbed: Path, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(folder name, settings) -> (rows, what each trial was trained for), every stage before taken from elsewhere."""
    from raysae.stages import trials

    monkeypatch.setenv("RAYSAE_LOCAL", "1")
    together = trials.train_together
    trained: list[str] = []

    def counted(jobs: Sequence[Any], *arguments: Any) -> Any:
        trained.extend(job.out.name for job in jobs)
        return together(jobs, *arguments)

    monkeypatch.setattr(trials, "train_together", counted)

    def run(name: str, *settings: str) -> tuple[list[dict[str, Any]], list[str]]:
        experiment, sealed = load(tiny_config, list(settings)), read(undisturbed / "protocol.json")
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        trained.clear()
        with Reporter().stage("sweep") as progress:
            sweep(experiment, undisturbed / "activations", undisturbed / "tokens", out, sealed, progress)
        return json.loads((out / "sweep.json").read_text())["trials"], list(trained)

    return run


def test_a_grid_multiplies_only_what_an_architecture_reads(tiny_config: Path) -> None:
    axes = ["sweep.architecture=[topk,relu,jumprelu]", "sweep.k=[2,3]", "sweep.l1=[0.1]", "sweep.l0=[0.2,0.3,0.4]"]
    experiment = load(tiny_config, [*axes, "sweep.expansion=[4]", "sweep.trials=6"])
    found = points.grid(experiment)
    assert [(p["architecture"], p["k"], p["l1"], p["l0_weight"]) for p in found] == [
        ("topk", 2, 0, 0),
        ("topk", 3, 0, 0),
        ("relu", 4, 0.1, 0),
        ("jumprelu", 4, 0, 0.2),
        ("jumprelu", 4, 0, 0.3),
        ("jumprelu", 4, 0, 0.4),
    ]
    at = points.configure(experiment, found[-1])
    assert (at.sae.architecture, at.sae.expansion, at.loss.l0, at.train.lr) == ("jumprelu", 4, 0.4, experiment.train.lr)


@pytest.mark.parametrize("search", ["tpe", pytest.param("nsga2", marks=pytest.mark.slow)])
def test_a_search_that_is_taken_up_again_trains_only_what_was_not_finished(search: str, swept: Any, tmp_path: Path):
    rows, trained = swept("whole", *SEARCH, f"sweep.search={search}")
    assert trained == [f"trial-{number:02d}" for number in range(6)]
    assert len({row["lr"] for row in rows}) > 3 and {row["architecture"] for row in rows} == {"batch_topk", "relu"}
    for number in (1, 4, 5):  # as after a kill with two trials at a time
        (tmp_path / "whole" / f"trial-{number:02d}.json").unlink()
    for name in ("sweep.json", "manifest.json"):
        (tmp_path / "whole" / name).unlink()
    again, trained = swept("whole", *SEARCH, f"sweep.search={search}")
    assert trained == ["trial-01", "trial-04", "trial-05"]
    assert again == rows


def test_asha_stops_trials_early_and_chooses_none_of_them(swept: Any, tmp_path: Path) -> None:
    settings = ["sweep.scheduler=asha", "sweep.trials=6", "sweep.k=[2,3,4]", "sweep.steps=40"]
    rows, _ = swept("whole", *settings)
    assert {row["steps"] for row in rows if row["stopped"]} == {20} and {row["stopped"] for row in rows} == {
        True,
        False,
    }
    assert all(row["steps"] == 40 for row in rows if not row["stopped"])
    assert not any(row["stopped"] for row in rows if row["chosen"] or row["pareto"])
    assert not list((tmp_path / "whole").glob("*.checkpoint*"))
    for name in ("sweep.json", "manifest.json", "trial-02.json"):
        (tmp_path / "whole" / name).unlink()
    again, trained = swept("whole", *settings)
    assert (again, trained) == (rows, ["trial-02"]), "the scheduler heard again what was measured before"


def test_a_trial_has_the_bits_of_the_same_point_alone_or_in_a_grid_and_probes_change_nothing_at_weight_0(swept: Any):
    grid, _ = swept("grid", "sweep.trials=2", "sweep.expansion=[2]", "sweep.k=[4]", "sweep.probe=[0,0.1]")
    apart, _ = swept("apart", "sweep.trials=1", "sweep.expansion=[2]", "sweep.k=[4]")
    same = ("fvu", "l0", "margin", "r_geo", "f1")
    assert [grid[0][name] for name in same] == [apart[0][name] for name in same]
    assert grid[1]["fvu"] != grid[0]["fvu"]


def suggested(experiment: Experiment, order: str) -> list[dict[str, Any]]:
    """Twelve suggestions of `tpe` for an invented objective, the trials of a round ended in some order."""
    from raysae.stages.search import Search

    drawn: list[dict[str, Any]] = []

    def make(number: int, values: dict[str, Any]) -> dict[str, Any]:
        assert number == len(drawn)
        drawn.append(values)
        return values

    search = Search(experiment, ("reconstruction", "sparsity"), 6.4, make)
    waiting: list[tuple[str, dict[str, Any]]] = []
    rng = random.Random(0)
    while len(drawn) < 12 or waiting:
        asked = search.suggest(str(len(drawn))) if len(drawn) < 12 else None
        if asked is not None:
            waiting.append((str(len(drawn) - 1), asked))
        if asked is None or order == "one by one":
            trial, at = waiting.pop(rng.randrange(len(waiting)) if order == "any" else -1 if order == "last" else 0)
            result = {"margin": -at["k"], "l0": at["k"], "reconstruction": -abs(at["lr"] - 0.004), "sparsity": -at["k"]}
            search.on_trial_complete(trial, result)
    return drawn


def test_how_many_trials_run_at_the_same_time_changes_no_suggestion(tiny_config: Path) -> None:
    axes = ["sweep.k=[2,9]", "sweep.lr=[1e-3,1e-2]", "sweep.expansion=[4]", "sweep.trials=12", "sweep.round=3"]
    experiment = load(tiny_config, [*axes, "sweep.search=tpe"])
    first = suggested(experiment, "one by one")
    assert all(suggested(experiment, order) == first for order in ("first", "last", "any"))
    assert first != suggested(experiment.model_copy(update={"seed": 1}), "first")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["sweep.search=tpe", "sweep.expansion=[4]", "sweep.k=[4]", "sweep.l1=[]"], "sweep.search=tpe over one value"),
        (["sweep.scheduler=asha", "train.k_anneal_fraction=0.999"], "type train.k_anneal_fraction=0.5"),
        (["sweep.search=nsga2", "activations.mode=stream"], "type activations.mode=cache"),
        (["sweep.architecture=[vanilla]"], "vanilla"),
        (["sweep.k=[4,999]"], "999"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(settings: list[str], said: str, tiny_config: Path) -> None:
    with pytest.raises(BadInput, match=said):
        points.check(load(tiny_config, settings), d_in=64)


def test_without_optuna_the_command_says_what_to_type(tiny_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"sweep.search=tpe; allowed: with the package optuna; type pip install 'raysae"):
        points.check(load(tiny_config, ["sweep.search=tpe"]), d_in=64)


def test_rungs_begin_where_k_and_the_penalties_stay_as_they_are(tiny_config: Path) -> None:
    def of(*settings: str) -> tuple[int, ...]:
        return points.rungs(load(tiny_config, ["sweep.steps=80", *settings]))

    assert of("train.k_anneal_fraction=0.1") == (20, 40)
    assert of("train.k_anneal_fraction=0.5") == (40,)
    assert of("train.k_anneal_fraction=0", "train.penalty_warmup_fraction=0.3") == (24, 48)
    assert of("train.k_anneal_fraction=0.999") == ()
