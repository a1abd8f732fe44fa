"""What a run will take, and the rehearsals by which that is timed."""

import tempfile
from pathlib import Path
from typing import Any

from raysae.checks import check, check_inputs
from raysae.pipeline import run
from raysae.store import RunFolder
from raysae.types import Experiment


def plans(experiment: Experiment) -> dict[str, Any]:
    """`raysae.costs.plan.Plan` by mode of `activations`, that of the experiment first; nothing is written."""
    from raysae.stages import plan

    check(experiment)
    check_inputs(experiment)
    return plan.plans(experiment, RunFolder(experiment))


def rehearse(experiment: Experiment, reporter: Any) -> None:
    """Run the experiment twice in miniature, beside its run folder, and keep how long its stages took."""
    from raysae.costs.rehearsal import SHARES, miniature
    from raysae.stages import plan
    from raysae.stages.resources import connect

    plans(experiment)  # what cannot be planned is not rehearsed
    counts = plan.records(experiment)
    experiment.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".rehearsal-", dir=experiment.out) as scratch:
        aside = experiment.model_copy(update={"out": Path(scratch)})
        rehearsed = [miniature(aside, which, sum(counts), max(counts)) for which in range(len(SHARES))]
        connect()
        for one in rehearsed:
            run(one, reporter)
        plan.learn(experiment, RunFolder(experiment), rehearsed)
