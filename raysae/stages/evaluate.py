"""SAEs and null arms -> `metrics/`: every registered criterion on TEST, beside its nulls.

The only stage that opens TEST. Unit of work: one (arm, seed), by `evidence.Examiner`; here the evidence of all arms is
put together into one Metric per criterion.
"""

import json
from pathlib import Path
from typing import Any

from raysae.falsification.metrics import alignment, causal, fidelity, reconstruction, sparsity
from raysae.falsification.protocol import Protocol, read
from raysae.stages.capture import MAIN, arms
from raysae.stages.evidence import PERMUTED, RANDOM_DICTIONARY, EvidenceJob, Examiner, revive_alignment
from raysae.stages.progress import StageProgress
from raysae.stages.resources import map_blocks
from raysae.store import BlockInfo, Manifest, RunFolder, describe_file, finished_blocks, write_json
from raysae.types import Experiment, Metric
from raysae.types.experiment import fingerprint, stream_seed

NO_PROGRAM = "The corpus has no causal program to intervene on, so this criterion cannot be measured here."


def evaluate(experiment: Experiment, folder: RunFolder, progress: StageProgress) -> dict[str, Metric]:
    """Write `metrics/` and return the metrics by criterion."""
    protocol = read(folder.protocol)
    names = [*arms(experiment), *([RANDOM_DICTIONARY] if RANDOM_DICTIONARY in experiment.protocol.nulls else [])]
    saes = [Manifest.read(path.parent).fingerprint for path in sorted(folder.sae.rglob("manifest.json"))]
    mark = fingerprint({"protocol": protocol.sha256, "saes": saes})
    criteria = tuple(row.name for row in protocol.criteria)
    job = EvidenceJob(experiment, criteria, protocol.factors, protocol.causal_units, mark)
    items = [{"arm": arm, "seed": seed} for arm in names for seed in experiment.train.seed_numbers]
    done = finished_blocks(folder.metrics, [f"{item['arm']}-{item['seed']}" for item in items], mark)
    progress.total(len(items))
    progress.advance(len(done))
    todo = [item for item in items if f"{item['arm']}-{item['seed']}" not in done]
    for answer in map_blocks(Examiner, (job,), todo, actors=2):
        info = BlockInfo.model_validate(answer["block"])
        done[info.name] = info
        progress.advance(1, answer["text"])
    evidence = {
        arm: [
            json.loads((folder.metrics / done[f"{arm}-{seed}"].file).read_text())
            for seed in experiment.train.seed_numbers
        ]
        for arm in names
    }
    metrics = summarise(experiment, protocol, evidence)
    files = _write(folder.metrics, metrics, evidence)
    blocks = [done[name] for name in sorted(done)]
    blocks += [describe_file(path, mark) for path in files]
    Manifest(kind="metrics", fingerprint=mark, blocks=tuple(blocks)).write(folder.metrics)
    return metrics


def summarise(
    experiment: Experiment, protocol: Protocol, evidence: dict[str, list[dict[str, Any]]]
) -> dict[str, Metric]:
    """One Metric per registered criterion from the evidence of every arm and seed."""
    bootstrap, seed = protocol.bootstrap, stream_seed(experiment.seed, "bootstrap") % 2**32
    found: dict[str, Metric] = {}
    for name in (row.name for row in protocol.criteria):
        if name == "reconstruction":
            found[name] = reconstruction.summarise(
                _columns(evidence, name), l0_cap=protocol.l0_cap, bootstrap=bootstrap, seed=seed
            )
        elif name == "sparsity":
            found[name] = sparsity.summarise(
                _columns(evidence, name), l0_cap=protocol.l0_cap, bootstrap=bootstrap, seed=seed
            )
        elif name == "fidelity":
            found[name] = fidelity.summarise(_columns(evidence, name), bootstrap=bootstrap, seed=seed)
        elif name == "alignment":
            found[name] = _alignment(evidence, protocol)
        elif name == "causal_interchange":
            found[name] = _causal(evidence, protocol)
    return found


def _columns(evidence: dict[str, list[dict[str, Any]]], name: str) -> dict[str, list[dict[str, Any]]]:
    import numpy as np

    return {
        arm: [{key: np.asarray(values) for key, values in seed[name].items()} for seed in seeds]
        for arm, seeds in evidence.items()
    }


def _alignment(evidence: dict[str, list[dict[str, Any]]], protocol: Protocol) -> Metric:
    by_arm = {
        arm: [revive_alignment(seed["alignment"]) for seed in seeds if "alignment" in seed]
        for arm, seeds in evidence.items()
    }
    permuted = [[revive_alignment(draw) for draw in seed.get("permuted", [])] for seed in evidence[MAIN]]
    return alignment.summarise(by_arm, names=protocol.factors, permuted=permuted if all(permuted) else [])


def _causal(evidence: dict[str, list[dict[str, Any]]], protocol: Protocol) -> Metric:
    if not protocol.causal_units:
        return causal.summarise({MAIN: [[] for _ in evidence[MAIN]]}, pairs=protocol.pairs).model_copy(
            update={"not_run": NO_PROGRAM}
        )
    return causal.summarise(_units(evidence), pairs=protocol.pairs)


def _units(evidence: dict[str, list[dict[str, Any]]]) -> dict[str, list[list[causal.Unit]]]:
    found = {arm: [_revive(seed["units"]) for seed in seeds] for arm, seeds in evidence.items() if "units" in seeds[0]}
    if "permuted_units" in evidence[MAIN][0]:
        found[PERMUTED] = [_revive(seed["permuted_units"]) for seed in evidence[MAIN]]
    return found


def _revive(plain: list[dict[str, Any]]) -> list[causal.Unit]:
    return [causal.Unit(**{**unit, "matched": tuple(unit["matched"])}) for unit in plain]


def _write(out: Path, metrics: dict[str, Metric], evidence: dict[str, list[dict[str, Any]]]) -> list[Path]:
    write_json(
        out / "metrics.json", {"criteria": {name: metric.model_dump(mode="json") for name, metric in metrics.items()}}
    )
    write_json(out / "contexts.json", evidence[MAIN][0].get("contexts", []))
    paths = [out / "metrics.json", out / "contexts.json"]
    if "units" in evidence[MAIN][0]:
        write_json(out / "causal.json", {"units": causal.table(_units(evidence))})
        paths.append(out / "causal.json")
    return paths
