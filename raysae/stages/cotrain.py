"""Several SAEs on one stream of activations: each batch is read, shuffled and sent to the device once, and every SAE
takes its step on it in turn. A step depends on its own SAE and the batch alone, so each ends with the bits it has when
it is trained alone; how many go together is no part of what they are.

A checkpoint is one atomic file per SAE (weights, optimizer, counters, history, step). After a kill the stream starts at
the least step of the group, and an SAE that is further waits until the stream has caught up with it.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

from raysae.errors import RaysaeError
from raysae.saes import checkpoint
from raysae.stages.gauges import count_tokens, show_training
from raysae.stages.halt import Halt
from raysae.stages.jobs import SAEJob, make_trainer
from raysae.stages.stream import shared
from raysae.store import ActivationStore, Checkpoints
from raysae.training import AllReduce, Diverged, SAETrainer
from raysae.training.guides import GUIDE_COLUMNS, Guides, guides_of
from raysae.types import HookPoint, Split
from raysae.types.experiment import fingerprint
from raysae.types.learning import TrainConfig

HISTORY_STEPS = 25
"""Steps between two points of the training curves: the only moments the device is asked for numbers."""


class Place(NamedTuple):
    """Where in a worker group this process stands."""

    rank: int = 0
    world: int = 1
    all_reduce: AllReduce = lambda flat: None
    broadcast: Callable[[Any], None] = lambda tensor: None
    """Of a tensor of rank 0, in place."""


def device_of(train: TrainConfig) -> Any:
    import torch

    return torch.device("cuda" if train.gpu and torch.cuda.is_available() else "cpu")


def of_rank_0(place: Place, device: Any, work: Callable[[], object]) -> None:
    """`work` by rank 0 alone, called on every rank. A user's error there ends all of them at this point: rank 0 with
    the error itself, the others with a word for it. Without, they would wait for rank 0 in their next sum."""
    import torch

    failed: RaysaeError | None = None
    if place.rank == 0:
        try:
            work()
        except RaysaeError as error:
            failed = error
    word = torch.tensor([float(failed is not None)], device=device)
    place.broadcast(word)
    if word.item():
        raise failed or RaysaeError("rank 0 could not write what training leaves")


class Course:
    """One SAE on its way through the stream."""

    def __init__(self, job: SAEJob, store: ActivationStore, device: Any) -> None:
        self.job, self.device = job, device
        self.trainer: SAETrainer = make_trainer(job, store, device)
        self.history: dict[str, list[float]] = {}
        self.origin: dict[str, str] = {}
        """`Origin`, as training finds it; empty where a checkpoint does not say."""
        self.checkpoints = Checkpoints(job.out, job.fingerprint, job.train.keep_checkpoints)
        if (found := self.checkpoints.load()) is not None:
            tensors, header = found
            self.trainer.restore(tensors, header["trainer"])
            self.history, self.origin = header["history"], header.get("origin", {})
        else:
            shard = fingerprint([block.sha256 for block in store.blocks(Split.TRAIN, job.stream.shard)])
            self.origin = {"init": checkpoint.digest(self.trainer.sae), "shard": shard}

    def begin(self, batch: Any) -> None:
        """With this batch, float32 [batch_tokens, d_in], of which `step` gets this worker's shards."""
        self.origin["order"] = sha256(batch.tobytes()).hexdigest()

    def step(self, shards: Sequence[Any], place: Place, guides: Sequence[Guides] | None, first_shard: int) -> None:
        """Raises Diverged, with the checkpoint from before named, when numbers are read and are none."""
        self.trainer.step(shards, place.all_reduce, guides, first_shard)
        done, train = self.trainer.steps_done, self.job.train
        try:
            if done % HISTORY_STEPS == 0 or done == train.steps:
                for name, value in self.trainer.metrics().items():
                    self.history.setdefault(name, []).append(value)
            if done % train.checkpoint_steps == 0 and done < train.steps:
                of_rank_0(place, self.device, self.save)
        except Diverged as error:
            last = self.checkpoints.newest() or "none yet"
            raise Diverged(f"{self.job.name}: {error}; last good checkpoint: {last}") from error

    def save(self) -> None:
        """Everything the next step depends on. Of checkpoints with the final k the one of the least FVU is the best."""
        tensors, header = self.trainer.state()
        k, fvu = (self.history.get(name, [None])[-1] for name in ("k", "fvu"))
        score = fvu if k == self.job.sae.k else None
        self.checkpoints.save(tensors, {"trainer": header, "history": self.history, "origin": self.origin}, score)

    def show(self) -> None:
        """The last point of the curves, to whoever watches the cluster."""
        out = self.job.out
        show_training(f"{out.parent.name}/{out.name}", self.history["loss"][-1], self.history["fvu"][-1])

    def say(self) -> str:
        fvu, l0 = (self.history[name][-1] for name in ("fvu", "l0"))
        return f"{self.job.name}: fvu {fvu:.3f}, l0 {l0:.1f}"


def train_together(
    jobs: Sequence[SAEJob],
    place: Place,
    halt: Halt,
    finish: Callable[[Course], None],
    rungs: Sequence[int] = (),
) -> Iterator[tuple[int, str]]:
    """Train jobs of one stream; yields (steps done by all of them, a line) every HISTORY_STEPS.

    At the end rank 0 calls `finish` on each and removes its checkpoints, and before that after so many steps as `rungs`
    says, where it leaves a checkpoint first; when `halt` says so, all stop after the same step and rank 0 leaves a
    checkpoint of each. Raises BadInput for a checkpoint that is cut short or of another run.
    """
    import torch

    first = jobs[0]
    device = device_of(first.train)
    store = ActivationStore(first.activations, feed=first.made_by.rows if first.made_by else None)
    courses = [Course(job, store, device) for job in jobs]
    # After a halt at the last step nothing is left but to finish: not before every rank has read its checkpoints.
    place.all_reduce(torch.zeros(1, device=device))
    start = min(course.trainer.steps_done for course in courses)
    last = max(job.train.steps for job in jobs)
    mine = range(place.rank * first.train.shards // place.world, (place.rank + 1) * first.train.shards // place.world)
    per_shard = first.train.batch_tokens // first.train.shards
    stream = first.stream
    guided = stream.guides is not None
    batches = stream.batches(store, start, last - start)
    if store.streamed and place.world > 1:
        columns = store.width(HookPoint.parse(first.hookpoint)) + (GUIDE_COLUMNS if guided else 0)
        batches = shared(batches, last - start, (first.train.batch_tokens, columns), place, device)
    for step, batch in enumerate(batches, start):
        for course in courses:
            if step in rungs and course.trainer.steps_done == step:
                of_rank_0(place, device, course.save)
                of_rank_0(place, device, partial(finish, course))
        if step == 0:
            for course in (one for one in courses if one.trainer.steps_done == 0):
                course.begin(batch[:, :-GUIDE_COLUMNS] if guided else batch)
        shards = [torch.from_numpy(batch[s * per_shard : (s + 1) * per_shard]).to(device) for s in mine]
        guides = [guides_of(shard) for shard in shards] if guided else None
        shards = [shard[:, :-GUIDE_COLUMNS] for shard in shards] if guides else shards
        for course in courses:
            if course.trainer.steps_done == step < course.job.train.steps:
                course.step(shards, place, guides, mine.start)
        if place.rank == 0:
            count_tokens("train", len(batch))
        if halt.now():
            for course in courses:
                if course.trainer.steps_done:
                    of_rank_0(place, device, course.save)
            break
        if (step + 1) % HISTORY_STEPS == 0 or step + 1 == last:
            if place.rank == 0:
                for course in courses:
                    course.show()
            done = sum(course.trainer.steps_done for course in courses)
            yield done, courses[0].say() + (f" (and {len(courses) - 1} more)" if courses[1:] else "")
    else:
        for course in courses:
            of_rank_0(place, device, partial(finish, course))
            of_rank_0(place, device, course.checkpoints.remove)
