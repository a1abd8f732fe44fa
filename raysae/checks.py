"""What must hold of an experiment before anything of it is written."""

from raysae.errors import BadInput
from raysae.stages import tracking
from raysae.store import RunFolder
from raysae.store.mirror import fetch
from raysae.store.writable import check_writable
from raysae.types import Experiment


def check(experiment: Experiment) -> None:
    """Everything about the experiment that can be known to be wrong without its text or its model."""
    from raysae.falsification.criteria import choose_criteria, judges_capture
    from raysae.falsification.nulls import NULLS, check_stand_in, choose_nulls
    from raysae.models.capture import check_hookpoints, width
    from raysae.models.load import describe
    from raysae.saes import check as check_sae
    from raysae.stages import ingest, overhead, plan, points, states
    from raysae.stages.capture import MAIN
    from raysae.stages.dictionaries import GUIDANCE, PLAIN
    from raysae.stages.exhibits import check_edits, check_observations

    choose_criteria(experiment.protocol.criteria)
    choose_nulls(experiment.protocol.nulls)
    check_stand_in(experiment.protocol.stand_in, experiment.protocol.nulls)
    check_observations(experiment.protocol.observations)
    check_edits(experiment)
    tracking.check(experiment)
    plan.check(experiment)
    if experiment.activations.mode == "stream" and experiment.capture.quarantine:
        raise BadInput(
            "capture.quarantine=true with activations.mode=stream",
            "allowed: with cache, where it is known before training which documents are left out",
            "type activations.mode=cache",
        )
    if judges_capture(experiment.protocol.criteria):
        overhead.check(experiment)
        return
    row = describe(experiment.model)
    check_hookpoints(row, experiment.capture.hookpoints)
    if experiment.tokenizer.ctx_len and experiment.tokenizer.ctx_len > row.ctx_len:
        raise BadInput(
            f"tokenizer.ctx_len={experiment.tokenizer.ctx_len}",
            f"{row.name} reads at most {row.ctx_len} tokens",
            f"type tokenizer.ctx_len={row.ctx_len}",
        )
    d_in = width(row, experiment.hookpoint)
    for name in experiment.rivals:
        if name in (MAIN, PLAIN, *GUIDANCE, *NULLS):
            raise BadInput(f"rivals.{name}", "allowed: a name that no other arm has", "give it another name")
        check_sae(experiment.arm(name).sae.architecture, d_in, d_in * experiment.sae.expansion, experiment.sae.k)
    for point in experiment.sae.also_at:
        d_there = width(row, point)
        check_sae(experiment.sae.architecture, d_there, d_there * experiment.sae.expansion, experiment.sae.k)
    check_sae(experiment.sae.architecture, d_in, d_in * experiment.sae.expansion, experiment.sae.k)
    points.check(experiment, d_in)
    ingest.check_names(experiment.corpus)
    states.check(experiment)


def check_inputs(experiment: Experiment) -> None:
    """There is a place to write to; text, model and tokenizer are there and fit each other. No weights are loaded and
    nothing is written yet."""
    from raysae.falsification.criteria import judges_capture
    from raysae.models.load import check_reachable, fitting_tokenizer
    from raysae.stages import ingest

    check_writable(experiment.folder, f"out={experiment.out}", "type out=<folder>")
    _check_device(experiment)
    check_reachable(experiment.model)
    if judges_capture(experiment.protocol.criteria):
        return
    ingest.check_files(experiment.corpus)
    fitting_tokenizer(experiment.model, experiment.tokenizer)


def _check_device(experiment: Experiment) -> None:
    """A cluster may have what this machine has not, and may grow it; one process has what it has."""
    from raysae.stages.resources import local_mode

    train, capture = experiment.train.gpu, experiment.capture.gpus_per_actor
    if not (local_mode() and (train or capture)):
        return
    import torch

    if torch.cuda.is_available():
        return
    key, value, without = ("train.gpu", "true", "false") if train else ("capture.gpus_per_actor", f"{capture:g}", "0")
    raise BadInput(
        f"{key}={value} with RAYSAE_LOCAL=1, where no CUDA device is seen",
        "allowed: a machine that has one",
        f"type {key}={without}, or leave RAYSAE_LOCAL out",
    )


def check_other_run(experiment: Experiment, folder: RunFolder) -> None:
    """BadInput for a run that transfer or its map cannot hold against this one, Refused for another than the sealed."""
    config = experiment.protocol
    for other in filter(None, (config.transfer_from, config.map_from)):
        fetch(other)
    if config.transfer_from is None and config.map_from is None and "transfer" not in config.criteria:
        return
    from raysae.falsification.protocol import read as read_protocol
    from raysae.stages import other_model, other_run

    if folder.protocol.is_file():
        sealed = read_protocol(folder.protocol)
        other_run.check_sealed(experiment, sealed.transfer_from)
        other_model.check_sealed(experiment, sealed.map_from)
    else:
        other_run.check(experiment)
        other_model.check(experiment)
