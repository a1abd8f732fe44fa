"""Optuna's suggestions in rounds, and trials one after the other without Ray.

What is suggested follows from the seed and the results of earlier rounds alone. A sweep that is taken up again is asked
the same questions and, its finished trials answering from their files, gets the same points: no state of the searcher
is kept, and none is read. This module loads Ray Tune: it is imported where a sweep needs it.
"""

from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from ray.tune import Stopper
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher

from raysae.stages.points import axes
from raysae.stages.trials import Report
from raysae.types import Experiment
from raysae.types.experiment import stream_seed

Config = dict[str, Any]
"""What a trainable of Tune is given."""
Plain = dict[str, Any]


class Search(Searcher):
    """`make` is given the number of a trial and the values that were drawn by axis.

    Within a round every suggestion is made before any result of it is told, and results are told in the order of the
    trials, so that it does not matter how many run at the same time. A trial above the L0 cap breaks a constraint.
    """

    def __init__(
        self, experiment: Experiment, objectives: tuple[str, ...], l0_cap: float, make: Callable[[int, Plain], Config]
    ) -> None:
        from ray.tune.search.optuna import OptunaSearch

        super().__init__()
        self.l0_cap, self.make = l0_cap, make
        self.size, self.asked = experiment.sweep.round, 0
        self.round: list[str] = []
        self.results: dict[str, Plain | None] = {}
        self.optuna = OptunaSearch(
            _space(experiment),
            metric=list(objectives),
            mode=["max"] * len(objectives),
            sampler=_sampler(experiment),
        )

    def suggest(self, trial_id: str) -> Config | None:
        """None until the round is over."""
        if len(self.round) == self.size:
            return None
        self.round.append(trial_id)
        self.asked += 1
        return self.make(self.asked - 1, self.optuna.suggest(trial_id) or {})

    def on_trial_result(self, trial_id: str, result: Plain) -> None:
        """Optuna takes several objectives only at the end."""

    def on_trial_complete(self, trial_id: str, result: Plain | None = None, error: bool = False) -> None:
        self.results[trial_id] = result if result and "margin" in result else None
        if len(self.results) < self.size:
            return
        for asked in self.round:
            if found := self.results[asked]:  # OptunaSearch has no word for constraints
                self.optuna._ot_trials[asked].set_constraint("l0", found["l0"] - self.l0_cap)
            self.optuna.on_trial_complete(asked, found, error=found is None)
        self.round, self.results = [], {}


def _sampler(experiment: Experiment) -> Any:
    """A quarter of the trials is drawn at random before the rest is suggested, or is a generation."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    first = max(4, experiment.sweep.trials // 4)
    seed = stream_seed(experiment.seed, "sweep/search") % 2**32
    if experiment.sweep.search == "tpe":
        return optuna.samplers.TPESampler(n_startup_trials=first, seed=seed)
    return optuna.samplers.NSGAIISampler(population_size=first, seed=seed)


def asha(experiment: Experiment, rungs: tuple[int, ...]) -> ASHAScheduler:
    """Compares by the margin of `SWEEP_RULE`."""
    return ASHAScheduler(
        time_attr="steps",
        metric="margin",
        mode="max",
        grace_period=rungs[0],
        max_t=experiment.sweep.steps,
        reduction_factor=2,
    )


class EndOnError(Stopper):
    """Of the whole sweep, once `seen` says that a trial cannot be."""

    def __init__(self, seen: Callable[[], bool]) -> None:
        self.seen = seen

    def __call__(self, trial_id: str, result: Plain) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.seen()


class _ToldToStop(Exception):
    """Ends a trial from within its report, as Tune does by ending the thread."""


def one_by_one(
    trials: int,
    config: Callable[[str], Config | None],
    train: Callable[[Config, Report], object],
    scheduler: TrialScheduler | None,
    complete: Callable[[str, Plain | None], object] | None,
) -> None:
    """What Tune does with one trial at a time, in this process; their ids are "0", "1", ..."""
    nobody: Any = None  # ASHA asks nothing of Tune's controller
    for trial_id in map(str, range(trials)):
        trial: Any = SimpleNamespace(trial_id=trial_id)
        told: list[Plain] = []
        if scheduler is not None:
            scheduler.on_trial_add(nobody, trial)

        def report(found: Plain, trial: Any = trial, told: list[Plain] = told) -> None:
            told.append(found)
            if scheduler is not None and scheduler.on_trial_result(nobody, trial, found) == TrialScheduler.STOP:
                raise _ToldToStop

        asked = config(trial_id)
        assert asked is not None, "a search waits for nobody where one trial ends before the next begins"
        with suppress(_ToldToStop):
            train(asked, report)
        if complete is not None:
            complete(trial_id, told[-1] if told else None)


def _space(experiment: Experiment) -> dict[str, Any]:
    """Optuna's distributions of the axes that have more than one value."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space: dict[str, Any] = {}
    for name, values in axes(experiment).items():
        if len(set(values)) == 1:
            continue
        if name == "architecture":
            space[name] = CategoricalDistribution(tuple(dict.fromkeys(values)))
            continue
        low, high = min(values), max(values)
        kind = IntDistribution if isinstance(low, int) else FloatDistribution
        space[name] = kind(low, high, log=low > 0)
    return space
