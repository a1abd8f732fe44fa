"""A run folder with every file a report reads. All numbers are made up; they only have the shapes of real ones."""

import json
import math
import random
from pathlib import Path
from typing import Any

from raysae.falsification.criterion import SWEEP_RULE
from raysae.falsification.phases import Footing
from raysae.falsification.protocol import Protocol, draft, seal
from raysae.types import Experiment, PhaseLink, RunRecord

from .judged import CRITERIA, metrics, verdict
from .text import quality

TEXT = "start with 3 . add 4 gives 7 . double gives 4 . subtract 2 gives 2 . add 5 gives 7 . answer 7 <eos>"


FIRST = PhaseLink(
    phase=1,
    experiment="phase1",
    outcome="NO_GO",
    mode="confirmatory",
    decided_at="2030-01-01T00:00:00+00:00",
    protocol_sha256="f8" * 32,
    decisions=2,
)
OVERRIDES = ("phase 2: phase 1 falls short in one stratum, and what follows is not about it",)


def history(arm: str, seed: int) -> dict[str, list[float]]:
    noise, floor = random.Random(f"{arm}{seed}"), 0.04 if arm == "main" else 0.035
    steps = list(range(0, 1001, 10))
    fade = [math.exp(-step / 120) for step in steps]
    return {
        "step": [float(step) for step in steps],
        "loss": [0.9 * f + floor for f in fade],
        "fvu": [(0.95 * f + floor) * (1 + 0.06 * noise.uniform(-1, 1)) for f in fade],
        "l0": [max(8.0, 32 - 24 * step / 500) + 0.2 * noise.uniform(-1, 1) for step in steps],
        "dead_fraction": [0.12 * (1 - f) + 0.01 * noise.random() for f in fade],
        "lr": [0.003 * min(1.0, (1001 - step) / 300) for step in steps],
    }


def sweep() -> dict[str, Any]:
    trials = [
        {
            "expansion": e,
            "k": k,
            "l1": 0.0,
            "fvu": 0.31 / k**0.8 * (1.1 if e == 4 else 1.0),
            "l0": k + 0.02,
            "zero_fraction": 1 - k / (64 * e),
            "margin": round(0.5 - abs(k - 8) / 20 - (e == 4) * 0.1, 3),
            "chosen": (e, k) == (8, 8),
        }
        for e in (4, 8)
        for k in (4, 8, 16)
    ]
    return {"rule": SWEEP_RULE, "trials": trials}


def causal() -> dict[str, Any]:
    draw = random.Random(7)
    units: list[dict[str, Any]] = []
    for variable, values in (
        ("total", range(10)),
        ("operation", ("add", "subtract", "double")),
        ("step_type", ("given", "update", "carry", "query", "answer")),
    ):
        for value in values:
            j = round(min(draw.uniform(0.45, 1.05), 1.0), 3)
            p95 = round(draw.uniform(0.02, 0.12), 3)
            units.append(
                {
                    "variable": variable,
                    "value": str(value),
                    "pairs": 200,
                    "latents": j,
                    "ceiling": 0.985,
                    "matched_mean": p95 / 3,
                    "matched_p95": p95,
                    "random_direction": round(draw.uniform(0, 0.03), 3),
                    "random_model": round(draw.uniform(0, 0.02), 3),
                    "permuted_labels": round(draw.uniform(0, 0.1), 3),
                    "corrected": (j - p95) / (0.985 - p95),
                    "coherent": j > 0.8,
                }
            )
    return {"units": units}


def attribution() -> dict[str, Any]:
    draw, doses = random.Random(11), [-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0]
    nulls = ("matched_latents", "random_direction", "shuffled_decoder")
    latents: list[dict[str, Any]] = []
    for seed in (0, 1):
        for rank in range(1, 9):
            slope = 0.9 / rank
            curve = [slope * dose - 0.1 * slope * dose**2 for dose in doses]
            good = rank < 5
            latents.append(
                {
                    "seed": seed,
                    "rank": rank,
                    "latent": 17 * rank + seed,
                    "target": rank % 2,
                    "sites": 16,
                    **{name: slope for name in ("fit_slope", "slope", "effect", "predicted")},
                    **{name: -2 * slope for name in ("zero", "mean", "resample")},
                    **{f"p_{null}": 0.002 if good else 0.31 for null in nulls},
                    **{name: 0.97 for name in ("r2", "symmetry", "specificity")},
                    **{name: True for name in ("supports", "linear", "specific")},
                    **{name: good for name in ("significant", "stands_out", "passes")},
                    "curve": curve,
                    "null_curves": {null: [0.1 * draw.uniform(-1, 1) * dose for dose in doses] for null in nulls},
                    "null_effects": {null: [draw.uniform(-0.15, 0.1) for _ in range(16)] for null in nulls},
                }
            )
    return {"doses": doses, "groups": ["total", "step_type", "other words"], "latents": latents}


def hook_sweep() -> list[dict[str, Any]]:
    return [
        {
            "hookpoint": f"layers.{layer}.{site}",
            "fit": 0.1,
            "test": 0.1,
            "fit_statistic": 4.0,
            "statistic": 9.3 - 3.1 * layer - 4.4 * (site == "mlp_out"),
            "p": 0.001,
            "band": 2.31,
            "chosen": (layer, site) == (0, "resid_post"),
        }
        for layer in range(4)
        for site in ("resid_post", "mlp_hidden", "mlp_out")
    ]


def contexts() -> list[dict[str, Any]]:
    words = TEXT.split()
    made: list[dict[str, Any]] = []
    for index, (label, target) in enumerate(
        (("total=7", "7"), ("operation=double", "double"), ("total=2", "2"), ("step_type=answer", "answer"))
    ):
        rows = [
            {
                "tokens": words,
                "activations": [
                    round((1.9 - 0.12 * n - 0.01 * i) * (word == target), 3) for i, word in enumerate(words)
                ],
                "record_id": f"arithmetic_cot/{100 * index + n}",
            }
            for n in range(6)
        ]
        made.append({"latent": 12 + 37 * index, "label": label, "f1": 0.981 - 0.03 * index, "contexts": rows})
    pieces = [
        "\n",
        "Natalia",
        " sold",
        " 48",
        "/",
        "2",
        " =",
        " <<",
        "48",
        "/",
        "2",
        "=",
        "24",
        ">>",
        "24",
        " clips",
        " in",
        " May",
        ".",
        "\n",
        "####",
        " 24",
    ] * 3
    made.append(
        {
            "latent": 7,
            "label": "step_type=calculation",
            "f1": 0.64,
            "contexts": [
                {
                    "tokens": pieces,
                    "activations": [0.0] * 40 + [0.2, 0.9, 3.1, 1.4] + [0.0] * 22,
                    "record_id": "gsm8k/test/5",
                }
            ],
        }
    )
    return made


def step_control() -> dict[str, Any]:
    draw, steps = random.Random(5), {"PARSE": (3, 211, 60, 7), "OPERATE": (88, 12, 140, 9), "FORMAT": (301,)}
    rows = [
        {
            "step": step, "edit": edit, "outcome": outcome, "unit": "steps" if outcome == "steps" else "nats",
            "effect": (x := draw.uniform(-0.6, 0.2)), "interval": [x - 0.05, x + 0.05],
            "matched_latents_mean": 0.01, "matched_latents_p95": 0.08, "random_direction_mean": -0.002,
            "random_direction_p95": 0.04, "stands_out": abs(x) > 0.3,
        }
        for step in steps for edit in ("ablate", "amplify") for outcome in ("answer", "steps", "detection")
    ]  # fmt: skip
    matrix = [
        {"step": step, "latent": latent, "of": of, "outcome": outcome, "effect": draw.uniform(-0.3, 0.3), "band": 0.2}
        for step in steps
        for of, latents in steps.items()
        for latent in latents
        for outcome in ("answer", "steps", "detection")
    ]
    return {"rows": rows, "matrix": matrix}


def transfer_map() -> list[dict[str, Any]]:
    draw, points = random.Random(9), [f"layers.{layer}.resid_post" for layer in range(3, 32, 4)]
    places = [*points, *(f"phase4_gpt2-medium {point}" for point in points[:6])]
    return [
        {
            "a": a, "b": b, "transfer": x if (x := draw.uniform(-0.1, 1.0)) > 0 else None,
            "interval": [x - 0.1, x + 0.1], "across": 0.4, "within": 0.6, "null": 0.2, "floor": "pca",
        }
        for b in points for a in places
    ]  # fmt: skip


def record(experiment: Experiment, sha256: str) -> RunRecord:
    stages = {
        "ingest": 1.9,
        "tokenize": 3.4,
        "capture": 21.7,
        "sweep": 31.2,
        "train": 64.5,
        "evaluate": 38.25,
        "decide": 0.12,
        "report": 1.8,
    }
    return RunRecord(
        experiment=experiment.name,
        started_at="2030-01-02T03:04:05Z",
        decided_at="2030-01-02T03:07:45+00:00",
        fingerprint=experiment.fingerprint(),
        config=experiment.model_dump(mode="json"),
        seeds={"world": 6917529027641081856, "train/0": 42, "train/1": 43},
        commit="0123456789abcdef+dirty",
        versions={"raysae": "0.1.0", "torch": "2.13.0", "ray": "2.60.0", "transformers": "5.23.0"},
        tokens=1_234_567,
        bytes_written=412_345_678,
        seconds=stages,
        device="cpu (2 cores)",
        device_hours=0.0453,
        protocol_sha256=sha256,
        mode="exploratory",
        outcome="NO_GO",
        criteria={name: "GO" for name in CRITERIA},
        attempt=1,
    )


def resources() -> dict[str, Any]:
    def row(wall_s: float, **made: int) -> dict[str, Any]:
        used = {"cpu_hours": wall_s / 1800, "device": "cpu", "device_hours": wall_s / 1800, "cost": wall_s / 45_000}
        used |= {"peak_bytes": 734_003_200, "gpu_peak_bytes": 0, "read_bytes": 52_000_000, "written_bytes": 41_000_000}
        return {"wall_s": wall_s, **used, "tokens": 0, "numbers_bytes": 0, "disk_bytes": 0, **made}

    made = {"tokens": 802_468, "numbers_bytes": 308_147_712, "disk_bytes": 271_000_000}
    return {
        "stages": {"ingest": row(3.2), "capture": row(24.9, **made), "train": row(61.4, tokens=3_276_800)},
        "prices": {"currency": "USD", "device_hour": {"cpu": 0.04}, "gb_month": 0.0},
        "planned": {
            "counted_by": "tokens counted in 14 blocks",
            "timed_by": "timed by a rehearsal on this machine",
            "stages": {"capture": {"wall_s": 31.0, **made, "disk_bytes": 310_000_000}, "train": {"wall_s": 55.5}},
        },
    }


def protocol(experiment: Experiment) -> Protocol:
    units = tuple(f"{unit['variable']}={unit['value']}" for unit in causal()["units"])
    return draft(
        experiment,
        l0_cap=6.4,
        splits={"TRAIN": "a3" * 32, "FIT": "b4" * 32, "TEST": "c5" * 32},
        test_documents=400,
        activation_documents=1600,
        factors=tuple(f"total={n}" for n in range(48)),
        dropped_factors={"total=48": "31 TEST occurrences, 200 needed"},
        causal_units=units,
        model_sha256="d6" * 32,
        tokenizer_sha256="e7" * 32,
        commit="0123456789abcdef",
        footing=Footing((FIRST,), OVERRIDES),
    )


def build_run(folder: Path) -> Path:
    """Write the whole folder and return it."""
    experiment = Experiment.model_validate({"name": folder.name, "sweep": {"trials": 6}, "protocol": {"phase": 2}})
    measured, registered = metrics(), protocol(experiment)
    seal(registered, folder / "protocol.json")
    files: dict[str, Any] = {
        "experiment.json": {"name": experiment.name, "identity": experiment.identity()},
        "verdict.json": verdict(measured, registered.sha256, OVERRIDES).model_dump(mode="json"),
        "record.json": record(experiment, registered.sha256).model_dump(mode="json"),
        "metrics/metrics.json": {
            "criteria": {name: metric.model_dump(mode="json") for name, metric in measured.items()}
        },
        "metrics/contexts.json": contexts(),
        "metrics/causal.json": causal(),
        "metrics/attribution.json": attribution(),
        "metrics/hook_sweep.json": hook_sweep(),
        "metrics/step_control.json": step_control(),
        "metrics/transfer_map.json": transfer_map(),
        "resources.json": resources(),
        "sweep/sweep.json": sweep(),
        "quality/quality.json": quality(),
        "corpus/manifest.json": {
            "kind": "corpus",
            "extra": {"records": {"TRAIN": 5600, "FIT": 800, "TEST": 1600}, "quarantined": 3, "tokens": 401_234},
        },
    }
    for arm in ("main", "random_model"):
        for seed in (0, 1):
            files[f"sae/{arm}/{seed}/history.json"] = history(arm, seed)
    for name, value in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
    return folder
