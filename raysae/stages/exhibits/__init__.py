"""What `evaluate` measures: a file per kind of evidence, and the table that names them.

An exhibit with the name of a criterion is what that criterion is judged by. Any other is an observation: a number with
its interval and its nulls but without a threshold, taken where `protocol.observations` asks for it. An exhibit shows
plain numbers for one SAE (`Exhibit`, or `Divided` into parts) or for all seeds of an arm at once (`Comparison`), and
makes one Metric of what all arms and seeds have shown. A criterion without an exhibit is NOT_RUN.
"""

from raysae.errors import BadInput
from raysae.falsification.criteria import CRITERIA
from raysae.models.load import describe
from raysae.stages.exhibits import (
    alignment,
    answers,
    attribution,
    brittleness,
    candidates,
    documents,
    fidelity,
    geometry,
    hook_sweep,
    interchange,
    labels,
    leakage,
    probes,
    seeds,
    step_control,
    transfer,
    transfer_map,
    verification,
)
from raysae.stages.exhibits.base import Comparison, Divided, Evidence, Exhibit
from raysae.stages.ingest import WORLDS
from raysae.types import Experiment
from raysae.types.hookpoint import LINEAR_SITES
from raysae.worlds.compiled import COMPILED

EXHIBITS: dict[str, Exhibit | Divided | Comparison] = {
    "reconstruction": documents.RECONSTRUCTION,
    "sparsity": documents.SPARSITY,
    "fidelity": fidelity.FIDELITY,
    "alignment": alignment.ALIGNMENT,
    "causal_interchange": interchange.INTERCHANGE,
    "causal_attribution": attribution.ATTRIBUTION,
    "hook_sweep": hook_sweep.HOOK_SWEEP,
    "redundancy": geometry.REDUNDANCY,
    "stability": seeds.STABILITY,
    "transfer": transfer.TRANSFER,
    "fvu_by_position": geometry.POSITIONS,
    "firing_density": geometry.DENSITY,
    "redundancy_level": geometry.LEVEL,
    "purity": geometry.PURITY,
    "clustering": seeds.CLUSTERING,
    "pw_mcc": seeds.PW_MCC,
    "leakage": leakage.LEAKAGE,
    "brittleness": brittleness.BRITTLENESS,
    "selectivity": labels.SELECTIVITY,
    "coverage": labels.COVERAGE,
    "calibration": labels.CALIBRATION,
    "probing": probes.PROBING,
    "interventional": alignment.INTERVENTIONAL,
    "answer_accuracy": answers.ANSWERS,
    "step_control": step_control.STEP_CONTROL,
    "transfer_map": transfer_map.TRANSFER_MAP,
    "candidates": candidates.CANDIDATES,
    "verification": verification.VERIFICATION,
}

OBSERVATIONS = tuple(name for name in EXHIBITS if name not in CRITERIA)


def check_observations(names: tuple[str, ...]) -> None:
    """BadInput for an observation nobody can make, or one named twice."""
    for name in names:
        if name not in OBSERVATIONS:
            allowed = ", ".join(OBSERVATIONS) or "none"
            raise BadInput(
                f"protocol.observations holds {name!r}", f"allowed: {allowed}", "correct the name or remove it"
            )
    if len(set(names)) != len(names):
        raise BadInput(
            f"protocol.observations={list(names)} repeats one", "allowed: each once", "remove the repetition"
        )


EDITING = ("causal_interchange", "causal_attribution", "stability", "hook_sweep", "step_control", "verification")
"""Exhibits that add to an activation and follow what comes of it from the block's output on."""


def check_edits(experiment: Experiment) -> None:
    """BadInput where something is to be pushed that reaches the block's output through a non-linear map, or exchanged
    where nothing that is read behind it must change."""
    wanted = [name for name in EDITING if name in (*experiment.protocol.criteria, *experiment.protocol.observations)]
    swept = experiment.capture.hookpoints if "hook_sweep" in wanted else ()
    for point in (experiment.hookpoint, *swept):
        if wanted and point.site not in LINEAR_SITES:
            raise BadInput(
                f"{wanted[0]} is to be measured at {point}",
                f"allowed: {', '.join(LINEAR_SITES)}",
                f"leave {wanted[0]} out, or type capture.hookpoints=[layers.{max(point.layer - 1, 0)}.resid_post]",
            )
    elsewhere = [name for name in experiment.corpus.names if name in WORLDS and name not in COMPILED]
    if "causal_interchange" in wanted and "wrong_site" in experiment.protocol.nulls and elsewhere:
        raise BadInput(
            f"protocol.nulls holds wrong_site with corpus.name={elsewhere[0]}",
            f"allowed: with {', '.join(COMPILED)}; elsewhere doing nothing succeeds one token behind the site",
            "leave wrong_site out of protocol.nulls",
        )
    last = describe(experiment.model).layers - 1
    if "step_control" in wanted and experiment.hookpoint.layer == last:
        raise BadInput(
            f"step_control is to be measured at {experiment.hookpoint}",
            "allowed: a layer before the last, behind which an edit reaches no other token",
            f"leave step_control out, or type sae.hookpoint=layers.{max(last - 1, 0)}.resid_post",
        )


__all__ = [
    "EXHIBITS",
    "OBSERVATIONS",
    "check_edits",
    "check_observations",
    "Comparison",
    "Divided",
    "Evidence",
    "Exhibit",
]
