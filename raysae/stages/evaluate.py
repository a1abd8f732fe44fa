"""SAEs and null arms -> `metrics/`: every registered criterion on TEST, beside its nulls.

The only stage that opens TEST. Units of work: one (arm, seed), a part of it where an exhibit is divided, and one arm
where its seeds are compared; here the evidence of all is put together into one Metric per criterion.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from raysae.falsification.criteria import CRITERIA
from raysae.falsification.metrics import causal
from raysae.falsification.protocol import read, source_sha256
from raysae.stages.capture import MAIN
from raysae.stages.contexts import top_contexts
from raysae.stages.court import Court
from raysae.stages.dictionaries import arms
from raysae.stages.exhibits import (
    EXHIBITS,
    Comparison,
    Divided,
    Evidence,
    Exhibit,
    attribution,
    hook_sweep,
    step_control,
    transfer_map,
)
from raysae.stages.exhibits.interchange import revive_units
from raysae.stages.progress import StageProgress
from raysae.stages.registration import check_content, note, opened
from raysae.stages.resources import map_blocks
from raysae.store import BlockInfo, Manifest, RunFolder, describe_file, finished_blocks, write_block, write_json
from raysae.types import Experiment, Metric
from raysae.types.experiment import fingerprint

ALL_SEEDS = "all"
TABLES: tuple[tuple[str, str, Callable[[Evidence], Any]], ...] = (
    ("attribution.json", attribution.NAME, attribution.rows),
    ("step_control.json", step_control.NAME, step_control.rows),
    ("hook_sweep.json", hook_sweep.NAME, hook_sweep.rows),
    ("transfer_map.json", transfer_map.NAME, transfer_map.rows),
)
"""File of `metrics/`, the criterion or observation it is of, and what it holds for the report; None where nothing was
measured."""


def evaluate(experiment: Experiment, folder: RunFolder, progress: StageProgress) -> dict[str, Metric]:
    """Write `metrics/` and return the metrics by criterion or observation."""
    protocol = read(folder.protocol)
    check_content(experiment, folder, protocol)
    note(folder.ledger, "open", protocol, opened(experiment, protocol))
    saes = [Manifest.read(path.parent).fingerprint for path in sorted(folder.sae.rglob("manifest.json"))]
    mark = fingerprint({"protocol": protocol.sha256, "saes": saes})
    judged = [row.name for row in protocol.criteria if row.name in EXHIBITS]
    wanted = [*judged, *protocol.observations]
    seeds = experiment.train.seed_numbers
    items = [{"arm": arm, "seed": seed} for arm in arms(experiment) for seed in seeds]
    items += [
        {"arm": arm, "seed": ALL_SEEDS}
        for arm in arms(experiment)
        if any(isinstance(EXHIBITS[name], Comparison) and shows(experiment, name, arm) for name in wanted)
    ]
    items += [
        {"arm": arm, "seed": seed, "criterion": name, "part": part}
        for name in wanted
        for arm in arms(experiment)
        for seed in seeds
        for part in range(_parts(experiment, name, arm))
    ]
    done = finished_blocks(folder.metrics, [_name(item) for item in items], mark)
    progress.total(len(items))
    progress.advance(len(done))
    todo = [item for item in items if _name(item) not in done]
    for answer in map_blocks(Examiner, (experiment, mark), todo, actors=experiment.protocol.actors):
        info = BlockInfo.model_validate(answer["block"])
        done[info.name] = info
        progress.advance(1, answer["text"])
    shown = {name: json.loads((folder.metrics / info.file).read_text()) for name, info in done.items()}
    for item in items:
        if "part" in item:
            seed = shown[f"{item['arm']}-{item['seed']}"]
            seed.setdefault(item["criterion"], []).append(shown[_name(item)].get(item["criterion"]))
    evidence = Evidence(
        experiment,
        protocol,
        saes={arm: [shown[f"{arm}-{seed}"] for seed in seeds] for arm in arms(experiment)},
        arms={arm: shown[f"{arm}-{ALL_SEEDS}"] for arm in arms(experiment) if f"{arm}-{ALL_SEEDS}" in shown},
    )
    metrics = {name: EXHIBITS[name].summarise(evidence) for name in wanted}
    files = _write(folder.metrics, metrics, judged, evidence)
    blocks = [done[name] for name in sorted(done)]
    blocks += [describe_file(path, mark) for path in files]
    measured_by = {"source_sha256": source_sha256()}
    Manifest(kind="metrics", fingerprint=mark, blocks=tuple(blocks), provenance=measured_by).write(folder.metrics)
    return metrics


def shows(experiment: Experiment, name: str, arm: str) -> bool:
    """Whether `arm` is examined for it: the real one is, the nulls that the criterion or the exhibit names, and rivals
    for alignment."""
    row = CRITERIA.get(name)
    named = (*row.voiding_nulls, *row.informational_nulls) if row else ()
    rival = arm in experiment.rivals and name == "alignment"
    return arm == MAIN or rival or arm in named or arm in EXHIBITS[name].nulls


def _parts(experiment: Experiment, name: str, arm: str) -> int:
    exhibit = EXHIBITS[name]
    return exhibit.parts if isinstance(exhibit, Divided) and shows(experiment, name, arm) else 0


class Examiner:
    """(arm, seed) -> `metrics/<arm>-<seed>.evidence.json`."""

    def __init__(self, experiment: Experiment, mark: str) -> None:
        torch.set_num_threads(1)
        self.court, self.mark, self.measured_by = Court(experiment), mark, source_sha256()

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        arm, seed = item["arm"], item["seed"]
        if "part" in item:
            found = self._part(arm, seed, item["criterion"], item["part"])
        else:
            found = self._compare(arm) if seed == ALL_SEEDS else self._examine(arm, seed)
        text = json.dumps({"arm": arm, "seed": seed, **found}, allow_nan=True)
        info = write_block(
            self.court.folder.metrics,
            _name(item),
            ".evidence.json",
            self.mark,
            1,
            lambda path: _put(path, text),
            source_sha256=self.measured_by,
        )
        return {"block": info.model_dump(mode="json"), "text": _name(item).replace("-", "/", 1)}

    def _examine(self, arm: str, seed: int) -> dict[str, Any]:
        exam = self.court.examine(arm, seed)
        found: dict[str, Any] = {}
        for name in self._wanted(arm):
            exhibit = EXHIBITS[name]
            if isinstance(exhibit, Exhibit) and (shown := exhibit.examine(exam)) is not None:
                found[name] = shown
        if arm == MAIN:
            matched = found.get("alignment", {}).get("matched")
            found["contexts"] = top_contexts(
                exam.test, exam.test_latents, exam.alive, matched, exam.protocol.factors, self.court.tokenizer
            )
        return found

    def _part(self, arm: str, seed: int, name: str, part: int) -> dict[str, Any]:
        exhibit = EXHIBITS[name]
        assert isinstance(exhibit, Divided)
        return {name: exhibit.examine(self.court.examine(arm, seed), part)}

    def _compare(self, arm: str) -> dict[str, Any]:
        exams = [self.court.examine(arm, seed) for seed in self.court.experiment.train.seed_numbers]
        found: dict[str, Any] = {}
        for name in self._wanted(arm):
            exhibit = EXHIBITS[name]
            if isinstance(exhibit, Comparison) and (shown := exhibit.examine(exams)) is not None:
                found[name] = shown
        return found

    def _wanted(self, arm: str) -> list[str]:
        protocol = self.court.protocol
        wanted = (*(row.name for row in protocol.criteria), *protocol.observations)
        return [name for name in wanted if name in EXHIBITS and shows(self.court.experiment, name, arm)]


def _name(item: dict[str, Any]) -> str:
    return "-".join(str(item[key]) for key in ("arm", "seed", "criterion", "part") if key in item)


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _write(out: Path, metrics: dict[str, Metric], judged: list[str], evidence: Evidence) -> list[Path]:
    plain = {name: metric.model_dump(mode="json") for name, metric in metrics.items()}
    write_json(
        out / "metrics.json",
        {
            "protocol_sha256": evidence.protocol.sha256,
            "criteria": {name: plain[name] for name in judged},
            "observations": {name: plain[name] for name in evidence.protocol.observations},
        },
    )
    write_json(out / "contexts.json", evidence.saes[MAIN][0].get("contexts", []))
    paths = [out / "metrics.json", out / "contexts.json"]
    if "causal_interchange" in evidence.saes[MAIN][0]:
        write_json(out / "causal.json", {"units": causal.table(revive_units(evidence))})
        paths.append(out / "causal.json")
    for file, name, rows in TABLES:
        if name in metrics and (found := rows(evidence)) is not None:
            write_json(out / file, found)
            paths.append(out / file)
    return paths
