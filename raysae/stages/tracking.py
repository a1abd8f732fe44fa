"""Weights & Biases and TensorBoard, where a run asks: a run of the former per stage, grouped by experiment, and for the
latter the training curves of every SAE.

What stands there is copied from the run folder after the stage, so nothing here can change a result, and what goes
wrong here stops none. The key comes from the environment and goes nowhere.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from raysae.errors import BadInput
from raysae.store import Manifest, RunFolder
from raysae.types import Experiment

KEY = "WANDB_API_KEY"
LEFT_OUT = {"out", "tracking"}
"""Of the configuration: paths and ourselves."""


def check(experiment: Experiment) -> None:
    """BadInput where a run is to be sent and there is no key."""
    if experiment.tracking.wandb == "online" and not os.environ.get(KEY):
        raise BadInput(
            f"tracking.wandb=online without {KEY} in the environment",
            "allowed: online with a key, offline, off",
            f"type export {KEY}=..., or tracking.wandb=offline",
        )


def track(experiment: Experiment, folder: RunFolder, stage: str, seconds: float) -> str | None:
    """Log a finished stage; returns a line about what went wrong, if anything did."""
    try:
        if experiment.tracking.tensorboard and stage == "train":
            _draw(experiment, folder)
        if experiment.tracking.wandb != "off":
            _log(experiment, folder, stage, seconds)
    except Exception as error:  # whatever it is, the stage is done and its files are there
        return f"tracking: {stage} was not logged ({' '.join(str(error).split())[:200]})"
    return None


def _log(experiment: Experiment, folder: RunFolder, stage: str, seconds: float) -> None:
    for name, value in (("WANDB_SILENT", "true"), ("WANDB_ERROR_REPORTING", "false")):
        os.environ.setdefault(name, value)
    import wandb

    with wandb.init(
        project=experiment.tracking.project,
        entity=experiment.tracking.entity,
        group=experiment.name,
        job_type=stage,
        name=f"{experiment.name}/{stage}",
        config=experiment.model_dump(mode="json", exclude=LEFT_OUT),
        dir=folder.root.parent,
        mode="online" if experiment.tracking.wandb == "online" else "offline",
        settings=wandb.Settings(console="off", save_code=False, disable_git=True, x_disable_stats=True),
    ) as run:
        for row in CURVES.get(stage, lambda _: iter(()))(folder):
            run.log(row)
        run.summary.update({"seconds": seconds, **SUMMARIES.get(stage, lambda _: {})(folder)})
        if stage == "report":
            run.log_artifact(_artifact(experiment, folder))


def _draw(experiment: Experiment, folder: RunFolder) -> None:
    """`out/tensorboard/<experiment>/<arm>/<seed>`, in the place of what an earlier run of that name left."""
    from tensorboardX import SummaryWriter

    home = folder.root.parent / "tensorboard" / experiment.name
    shutil.rmtree(home, ignore_errors=True)
    for path, history in _histories(folder):
        with SummaryWriter(str(home / path)) as writer:
            for name, values in history.items():
                for step, value in zip(history["step"], values, strict=False):
                    writer.add_scalar(name, value, int(step))


def _histories(folder: RunFolder) -> Iterator[tuple[str, dict[str, list[float]]]]:
    for path in sorted(folder.sae.rglob("history.json")):
        yield str(path.parent.relative_to(folder.sae)), json.loads(path.read_text())


def _counts(*parts: str) -> Callable[[RunFolder], dict[str, Any]]:
    """Rows and bytes of every manifest below these folders."""

    def found(folder: RunFolder) -> dict[str, Any]:
        paths = [path for part in parts for path in sorted((folder.root / part).rglob("manifest.json"))]
        manifests = {str(path.parent.relative_to(folder.root)): Manifest.read(path.parent) for path in paths}
        return {
            f"{name}/{what}": getattr(manifest, what)
            for name, manifest in manifests.items()
            for what in ("rows", "bytes")
        }

    return found


def _training(folder: RunFolder) -> Iterator[dict[str, float]]:
    """The curves of every SAE, a row per point."""
    from raysae.stages.cotrain import HISTORY_STEPS

    for name, history in _histories(folder):
        for place in range(max((len(values) for values in history.values()), default=0)):
            now = {f"{name}/{key}": values[place] for key, values in history.items() if place < len(values)}
            yield {"step": (place + 1) * HISTORY_STEPS, **now}


def _trials(folder: RunFolder) -> Iterator[dict[str, Any]]:
    if Manifest.exists(folder.sweep):
        yield from json.loads((folder.sweep / "sweep.json").read_text())["trials"]


def _metrics(folder: RunFolder) -> dict[str, Any]:
    found = json.loads((folder.metrics / "metrics.json").read_text())
    return {
        f"{name}/{key}": value
        for name, metric in {**found["criteria"], **found["observations"]}.items()
        for key, value in (("value", metric["value"]), ("low", metric["interval"][0]), ("high", metric["interval"][1]))
    }


def _verdict(folder: RunFolder) -> dict[str, Any]:
    verdict = json.loads(folder.verdict.read_text())
    criteria = {f"{name}/outcome": row["outcome"] for name, row in verdict["criteria"].items()}
    return {"outcome": verdict["outcome"], "mode": verdict["mode"], **criteria}


def _artifact(experiment: Experiment, folder: RunFolder) -> Any:
    """The report, the seal, the verdict, the numbers and every manifest: what one needs to check a claim."""
    import wandb

    artifact = wandb.Artifact(experiment.name, type="run", metadata={"fingerprint": experiment.fingerprint()})
    files = [folder.report, folder.protocol, folder.verdict, folder.record, folder.metrics / "metrics.json"]
    for path in [*files, *sorted(folder.root.rglob("manifest.json"))]:
        if path.is_file():
            artifact.add_file(str(path), name=str(path.relative_to(folder.root)))
    return artifact


CURVES: dict[str, Callable[[RunFolder], Iterator[dict[str, Any]]]] = {"train": _training, "sweep": _trials}
SUMMARIES: dict[str, Callable[[RunFolder], dict[str, Any]]] = {
    "ingest": _counts("corpus"),
    "tokenize": _counts("tokens"),
    "capture": _counts("activations"),
    "evaluate": _metrics,
    "decide": _verdict,
    "report": _verdict,
}
"""Stage -> what is logged of it beside its seconds."""
