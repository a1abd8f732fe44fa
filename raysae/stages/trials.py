"""Trials of a sweep: what one needs to be trained and judged anywhere, and the file that keeps what it found.

A trial's file holds its margins at every rung and at the end. It is all that a sweep needs to go on after a kill: what
stands in it is said again, not trained again.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raysae.falsification.criterion import SWEEP_RULE
from raysae.falsification.protocol import Protocol
from raysae.stages.capture import MAIN
from raysae.stages.cotrain import Course, Place, train_together
from raysae.stages.halt import Halt
from raysae.stages.jobs import SAEJob, plan
from raysae.stages.measure import fit_margins, read_sample
from raysae.stages.points import Point, configure, grid, rungs
from raysae.store import ActivationStore, TokenStore, write_json
from raysae.types import Experiment, HookPoint, Split
from raysae.types.experiment import fingerprint, stream_seed

Report = Callable[[dict[str, Any]], object]
"""Told {steps, margin, l0, a margin by criterion} of a trial so far; does not return where the trial is to stop."""


@dataclass(frozen=True)
class Judge:
    """What all trials of a sweep are measured by on FIT."""

    tokens: Path
    limit: int
    alive_rate: float
    l0_cap: float
    factors: tuple[str, ...]
    seed: int
    """Of N1, which redundancy is held against."""


@dataclass(frozen=True)
class Trial:
    """One point, and everything needed to measure it anywhere."""

    number: int
    point: Point
    job: SAEJob
    judge: Judge
    rungs: tuple[int, ...]
    """Steps at which it is measured on its way."""

    @property
    def file(self) -> Path:
        return self.job.out.with_suffix(".json")

    def known(self) -> dict[str, Any]:
        """{fingerprint, point, rungs, result}: what was found before, where it is of this very trial."""
        fresh = {"fingerprint": self.job.fingerprint, "point": self.point, "rungs": [], "result": None}
        found = json.loads(self.file.read_text()) if self.file.is_file() else fresh
        return found if found["fingerprint"] == self.job.fingerprint else fresh


class Trials:
    """Those of one sweep."""

    def __init__(self, experiment: Experiment, activations: Path, tokens: Path, out: Path, protocol: Protocol) -> None:
        config = experiment.sweep
        self.experiment, self.out, self.numbers = experiment, out.absolute(), range(config.trials)
        self.base = plan(experiment, activations, out)[0]
        assert self.base.arm == MAIN
        factors = protocol.factors if "alignment" in experiment.protocol.criteria else ()
        seed = stream_seed(experiment.seed, "nulls/chance_cosine") % 2**32
        self.objectives = ("reconstruction", "sparsity", "redundancy", *(("alignment",) if factors else ()))
        rules = experiment.protocol
        self.judge = Judge(tokens.absolute(), rules.test_tokens, rules.alive_rate, protocol.l0_cap, factors, seed)
        self.rungs = rungs(experiment) if config.scheduler == "asha" else ()
        self.searched = config.search != "grid"
        self.mark = fingerprint(
            {
                "base": self.base.fingerprint,
                "sweep": experiment.identity()["sweep"],
                "rule": SWEEP_RULE,
                "l0_cap": protocol.l0_cap,
                "factors": factors,
            }
        )
        self.label: str | None = experiment.loss.probe_label
        if config.probe:  # where its weight is 0 the probe watches, so that all trials learn from one stream
            self.label = ActivationStore(self.base.activations).label_values(self.label)[0]

    def trial(self, number: int, point: Point) -> Trial:
        at = configure(self.experiment, point)
        job = replace(
            self.base,
            # A trial shares no stream with the SAEs that are judged.
            seed=-1,
            order="sae/sweep/order",
            out=self._place(number),
            sae=at.sae,
            loss=at.loss.model_copy(update={"probe_label": self.label}),
            train=at.train.model_copy(update={"steps": self.experiment.sweep.steps}),
            fingerprint=fingerprint({"sweep": self.mark, "point": point}),
        )
        return Trial(number, point, job, self.judge, self.rungs)

    def of_grid(self) -> list[Trial]:
        return [self.trial(number, point) for number, point in enumerate(grid(self.experiment))]

    def row(self, number: int) -> dict[str, Any] | None:
        """Of sweep.json: the point and what was measured last; None for a trial that left nothing."""
        path = self._place(number).with_suffix(".json")
        if not path.is_file():
            return None
        found = self.trial(number, json.loads(path.read_text())["point"]).known()
        measured = [*found["rungs"], *([found["result"]] if found["result"] else [])]
        return {**found["point"], **measured[-1], "stopped": found["result"] is None} if measured else None

    def _place(self, number: int) -> Path:
        return self.out / f"trial-{number:02d}"


def measure_together(
    trials: Sequence[Trial], out: Path, say: Callable[[int, str], object], report: Report | None = None
) -> None:
    """Train some trials on their one stream and judge each on FIT; leaves a file for each. `report` is for one alone.

    `say` hears of the steps that they have done together. Nothing is trained where `out` asks to halt.
    """
    import torch

    torch.set_num_threads(1)
    known = {trial.number: trial.known() for trial in trials}

    def tell(found: dict[str, Any] | None) -> None:
        if report is not None and found is not None:
            report({name: found[name] for name in ("steps", "margin", "l0")} | found["margins"])

    for found in known[trials[0].number]["rungs"]:
        tell(found)
    todo = [trial for trial in trials if known[trial.number]["result"] is None]
    halt = Halt(out)
    if todo and not halt.asked.exists():
        _train(todo, known, halt, say, tell)
    tell(known[trials[0].number]["result"])


def _train(
    todo: Sequence[Trial],
    known: dict[int, dict[str, Any]],
    halt: Halt,
    say: Callable[[int, str], object],
    tell: Report,
) -> None:
    import torch

    job, by = todo[0].job, todo[0].judge
    point, store = HookPoint.parse(job.hookpoint), ActivationStore(job.activations)
    sample = read_sample(store, TokenStore(by.tokens), Split.FIT, point, by.limit)
    mean = torch.from_numpy(store.mean(point)).float()
    of_job = {trial.job.out: trial for trial in todo}

    def judge(course: Course) -> None:
        trial, steps = of_job[course.job.out], course.trainer.steps_done
        found = fit_margins(course.trainer.finished(), sample, mean, by.alive_rate, by.l0_cap, by.seed, by.factors)
        found, kept = {**found, "steps": steps}, known[trial.number]
        if steps == job.train.steps:
            kept["result"] = found
        else:
            kept["rungs"].append(found)
        write_json(trial.file, kept)
        if kept["result"] is None:
            tell(found)

    behind = {found["steps"] for trial in todo for found in known[trial.number]["rungs"]}
    rungs = [rung for rung in todo[0].rungs if rung not in behind]
    for done, text in train_together([trial.job for trial in todo], Place(), halt, judge, rungs):
        say(done, text)
