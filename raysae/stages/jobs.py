"""What is to be trained: one job per SAE, and which jobs may learn from the same stream of activations."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from raysae.saes import build
from raysae.stages.capture import MAIN, TWIN
from raysae.stages.dictionaries import CONTROLLED, GUIDANCE, PLAIN, reads, trained_arms
from raysae.stages.gaussian import gaussian_batches
from raysae.stages.pieces import WATCHED_ROWS
from raysae.stages.stream import Source, source
from raysae.store import ActivationStore, GuideColumns, Manifest, TokenStore
from raysae.store.order import DocumentShard
from raysae.training import SAETrainer
from raysae.training.hold import HOLDS
from raysae.types import Experiment, HookPoint, Split
from raysae.types.experiment import fingerprint, stream_seed
from raysae.types.learning import LossConfig, SAEConfig, TrainConfig

BATCHES: dict[str, Callable[..., Iterator[Any]]] = {"gaussian": gaussian_batches}
"""Arms that are trained on something else than the rows of the store."""


class Stream(NamedTuple):
    """A sequence of batches. Two jobs with equal streams see the same tokens in the same order.

    Independent runs must differ in order (SCIENCE 6.1), so the order comes from the seed: what shares a stream is a
    real SAE with the nulls of its seed, or the trials of a sweep, never two seeds.
    """

    activations: Path
    hookpoint: str
    source: str
    """A key of BATCHES, or `rows` of the store."""
    order: int
    """Seed of the order."""
    batch_tokens: int
    shards: int
    guides: GuideColumns | None
    """What the probe and the temporal term read."""
    shard: DocumentShard | None
    """Of TRAIN; all of it if null."""

    def batches(self, store: ActivationStore, start_step: int, steps: int) -> Iterator[Any]:
        """`steps` float32 [batch_tokens, d_in], with two columns more where there are `guides`."""
        point = HookPoint.parse(self.hookpoint)
        if self.source in BATCHES:
            endless = BATCHES[self.source](store, point, self.batch_tokens, self.order, start_step=start_step)
            return islice(endless, steps)
        return store.batches(
            point,
            self.batch_tokens,
            self.order,
            start_step=start_step,
            steps=steps,
            guides=self.guides,
            shard=self.shard,
        )


@dataclass(frozen=True)
class SAEJob:
    """One SAE to train: plain values, the same on every rank."""

    arm: str
    seed: int
    activations: Path
    out: Path
    hookpoint: str
    sae: SAEConfig
    loss: LossConfig
    train: TrainConfig
    experiment_seed: int
    fingerprint: str
    provenance: dict[str, Any]
    order: str
    """Name of the seed stream that orders its data."""
    made_by: Source | None
    """Of its rows, where they are streamed."""
    shard: DocumentShard | None
    controls: tuple[int, ...] | None = None
    """Token id -> control label, for the arm that is guided by those."""

    @property
    def name(self) -> str:
        return f"{self.arm}/{self.seed}"

    @property
    def stream(self) -> Stream:
        source = self.arm if self.arm in BATCHES else "rows"
        order = stream_seed(self.experiment_seed, self.order)
        train = self.train
        guides = guide_columns(self.loss, self.activations, self.controls) if source == "rows" else None
        return Stream(
            self.activations, self.hookpoint, source, order, train.batch_tokens, train.shards, guides, self.shard
        )


def document_shard(experiment: Experiment, number: int) -> DocumentShard | None:
    """What the seed `number` reads of TRAIN; None where every seed reads all of it."""
    seeds = experiment.train.seed_numbers
    return DocumentShard(seeds.index(number), len(seeds)) if experiment.train.documents == "own" else None


def plan(experiment: Experiment, activations: Path, out: Path) -> list[SAEJob]:
    """Every SAE of the experiment; `experiment.sae` and `experiment.loss` are the chosen ones."""
    jobs = []
    for arm in trained_arms(experiment):
        home = activations / reads(arm)
        manifest = Manifest.read(home)
        made_by = source(experiment, home.name) if ActivationStore(home).streamed else None
        recipe = experiment.arm(arm)
        loss = _loss(recipe.loss, arm, home)
        controls = None
        if arm == CONTROLLED:
            from raysae.stages.controls import control_table  # scikit-learn, which no other arm needs

            label, values = ActivationStore(home).label_values(loss.probe_label)
            controls = control_table(experiment, TokenStore(activations.parent / "tokens"), label, values)
        identity = recipe.identity()
        for seed in experiment.train.seed_numbers:
            parts = {"sae": identity["sae"], "loss": loss.model_dump(mode="json"), "train": identity["train"]}
            mark = fingerprint(
                {
                    **parts,
                    "hookpoint": str(recipe.hookpoint),
                    "activations": manifest.fingerprint,
                    "seed": seed,
                    "run": experiment.seed,
                    **({} if arm in (MAIN, TWIN, PLAIN) else {"null": arm}),
                }
            )
            provenance = {
                "experiment": experiment.name,
                "arm": arm,
                "seed": seed,
                "fingerprint": mark,
                "model_name": experiment.model.name,
                "hook_name": str(recipe.hookpoint),
                "config": parts,
            }
            jobs.append(
                SAEJob(
                    arm,
                    seed,
                    home.absolute(),
                    (out / arm / str(seed)).absolute(),
                    str(recipe.hookpoint),
                    recipe.sae,
                    loss,
                    recipe.train,
                    experiment.seed,
                    mark,
                    provenance,
                    order=f"sae/{seed}/order",
                    made_by=made_by,
                    shard=document_shard(experiment, seed),
                    controls=controls,
                )
            )
    return jobs


def _loss(loss: LossConfig, arm: str, home: Path) -> LossConfig:
    """Without the term to which a criterion compares. Without guidance the probe goes on watching, so that both SAEs
    of a seed learn from one stream."""
    if arm == PLAIN:
        return loss.model_copy(update={"decorrelation": 0.0})
    if arm in GUIDANCE and arm != CONTROLLED:
        label = ActivationStore(home).label_values(loss.probe_label)[0]
        return loss.model_copy(update={"probe": 0.0, "probe_label": label})
    return loss


def guide_columns(loss: LossConfig, activations: Path, controls: tuple[int, ...] | None = None) -> GuideColumns | None:
    """None where no term asks. BadInput for a label that the corpus does not have."""
    if not (loss.probes or loss.temporal):
        return None
    label = ActivationStore(activations).label_values(loss.probe_label)[0] if loss.probes else None
    return GuideColumns(label, pairs=loss.temporal > 0, table=controls)


def groups(jobs: Sequence[SAEJob], together: int) -> list[list[SAEJob]]:
    """Jobs by stream, in order of their first, at most `together` in a group."""
    by_stream: dict[Stream, list[SAEJob]] = {}
    for job in jobs:
        by_stream.setdefault(job.stream, []).append(job)
    return [same[i : i + together] for same in by_stream.values() for i in range(0, len(same), together)]


def make_trainer(job: SAEJob, store: ActivationStore, device: Any) -> SAETrainer:
    """A fresh trainer, initialised from the seed's own stream; it watches FIT tokens."""
    import torch

    point = HookPoint.parse(job.hookpoint)
    d_in = store.width(point)
    seed = stream_seed(job.experiment_seed, f"sae/{job.seed}/init")
    sae = build(job.sae.architecture, d_in, d_in * job.sae.expansion, job.sae.k, seed).to(device)
    hold = job.arm if job.arm in HOLDS else None
    guides = job.stream.guides
    label = guides.label if guides else None
    classes = len(store.label_values(label)[1]) if label else 0
    trainer = SAETrainer(sae, job.loss, job.train, job.sae.k, store.input_scale(point), hold=hold, classes=classes)
    if blocks := store.blocks(Split.FIT):
        rows = store.read(blocks[0], point)
        named = store.labels(blocks[0], label)[:WATCHED_ROWS] if label else None
        if named is not None and job.controls:
            named = np.where(named >= 0, np.array(job.controls)[rows.token_id[:WATCHED_ROWS]], -1)
        x = torch.from_numpy(rows.activations[:WATCHED_ROWS])
        trainer.watch(x, None if named is None else torch.from_numpy(named))
    return trainer
