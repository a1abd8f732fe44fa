"""The trainer: learns what was planted, resumes to the bit, and gives every number of workers the same SAE."""

import json
import threading

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from raysae.errors import BadInput, RaysaeError
from raysae.saes import ARCHITECTURES, build
from raysae.training import Diverged, SAETrainer
from raysae.training.guides import Guides
from raysae.training.resample import resample
from raysae.training.step import TERMS
from raysae.types.learning import LossConfig, TrainConfig

D_IN, D_SAE, K = 16, 48, 3
LOSS = LossConfig(l1=0.01, l0=0.001, decorrelation=0.1, probe=0.1, temporal=0.01)
TRAIN = TrainConfig(
    steps=40,
    batch_tokens=64,
    warmup_steps=4,
    dead_after_tokens=256,
    lr=0.01,
    penalty_warmup_fraction=0.5,
    resample_steps=10,
)
CLASSES = 2


@pytest.fixture(autouse=True)
def one_thread():
    """Sums are cut by threads: bits are compared between runs with the same number of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def alone(flat: Tensor) -> None:
    """The sum over one worker."""


def planted(n: int, seed: int, d: int = D_IN, active: float = 2.0) -> Tensor:
    """Sparse sums of the d axes, off centre."""
    generator = torch.Generator().manual_seed(seed)
    on = torch.rand(n, d, generator=generator) < active / d
    sizes = 1 + 0.2 * torch.rand(n, d, generator=generator)
    return 0.3 + on * sizes + 0.01 * torch.randn(n, d, generator=generator)


def trainer(architecture: str = "batch_topk", train: TrainConfig = TRAIN, loss: LossConfig = LOSS, seed: int = 0):
    return SAETrainer(build(architecture, D_IN, D_SAE, K, seed), loss, train, K, 2.5, classes=CLASSES)


def guides(x: Tensor) -> Guides:
    """A label that x holds, and pairs of neighbouring rows."""
    following = torch.arange(1, len(x) + 1).masked_fill_(torch.arange(len(x)) % 2 == 1, -1)
    return Guides((x[:, 0] > 0.8).long(), following)


def run(subject: SAETrainer, first: int, last: int) -> SAETrainer:
    for step in range(first, last):
        shards = planted(TRAIN.batch_tokens, step).chunk(subject.train.shards)
        subject.step(shards, alone, [guides(x) for x in shards])
    return subject


def assert_same_state(a: SAETrainer, b: SAETrainer) -> None:
    (tensors, header), (others, other_header) = a.state(), b.state()
    assert header == other_header
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name


def workers_in_lockstep(count: int, architecture: str, shards: int, steps: int = 25) -> list[SAETrainer]:
    """`count` trainers in threads; their all_reduce sums pairwise, as two real workers' must. Some latents begin
    silent: AuxK works on them from step 10 on, and at step 15 they are resampled."""
    train = TRAIN.model_copy(update={"shards": shards, "resample_steps": 15})
    trainers = [trainer(architecture, train) for _ in range(count)]
    for each in trainers:
        each.sae.b_enc[:4] = -1.0
    buffers: list[Tensor] = [torch.empty(0)] * count
    failures: list[BaseException] = []
    meeting = threading.Barrier(count, timeout=60)

    def tree(parts: list[Tensor]) -> Tensor:
        return parts[0] if len(parts) == 1 else tree(parts[: len(parts) // 2]) + tree(parts[len(parts) // 2 :])

    def work(rank: int) -> None:
        def all_reduce(flat: Tensor) -> None:
            buffers[rank] = flat
            meeting.wait()
            total = tree(buffers).clone()
            meeting.wait()
            flat.copy_(total)

        mine = slice(rank * shards // count, (rank + 1) * shards // count)
        try:
            for step in range(steps):
                parts = planted(train.batch_tokens, step).chunk(shards)[mine]
                trainers[rank].step(parts, all_reduce, [guides(x) for x in parts], mine.start)
        except BaseException as error:  # a thread's ends with it, unseen
            failures.append(error)
            meeting.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    assert all(each.steps_done == steps for each in trainers)
    return trainers


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("count", "shards"), [(2, 2), (2, 4), (4, 4)])
def test_any_number_of_workers_gives_the_same_bits(architecture, count, shards, monkeypatch):
    resampled = []

    def spy(sae, optimizer, dead, tokens):
        resampled.append(len(dead))
        resample(sae, optimizer, dead, tokens)

    monkeypatch.setattr("raysae.training.trainer.resample", spy)
    single = workers_in_lockstep(1, architecture, shards)[0]
    assert len(resampled) == 1 and resampled[0] > 0
    assert single.metrics()["aux"] > 0
    for worker in workers_in_lockstep(count, architecture, shards):
        worker.metrics()
        assert_same_state(single, worker)


def test_every_worker_starts_from_the_mean_of_the_whole_first_batch():
    for worker in workers_in_lockstep(2, "relu", 2, steps=1):
        before = worker.sae.b_dec - planted(TRAIN.batch_tokens, 0).mean(dim=0) * worker.input_scale
        assert float(before.abs().max()) <= TRAIN.lr / TRAIN.warmup_steps * 1.01  # one Adam step away


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("stop", [0, 1, 17])
def test_stopped_and_restored_continues_bit_for_bit_through_safetensors(architecture, stop):
    whole = run(trainer(architecture), 0, 40)
    tensors, header = run(trainer(architecture), 0, stop).state()
    again = trainer(architecture, seed=9)
    again.restore(load(save(tensors)), json.loads(json.dumps(header)))
    assert again.steps_done == stop
    run(again, stop, 40)
    assert not again.sae.needs_k or len(again.dead.listed)  # AuxK was at work
    assert_same_state(whole, again)
    assert whole.metrics() == again.metrics()


def test_a_state_is_a_copy_that_later_steps_do_not_touch():
    subject = run(trainer(), 0, 3)
    tensors, _ = subject.state()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    run(subject, 3, 6)
    assert all(torch.equal(before[name], tensor) for name, tensor in tensors.items())


def test_the_state_of_another_configuration_is_refused():
    tensors, header = run(trainer(), 0, 2).state()
    other = trainer(train=TRAIN.model_copy(update={"lr": 0.02}))
    with pytest.raises(BadInput, match="a checkpoint with train="):
        other.restore(tensors, header)
    trainer(train=TRAIN.model_copy(update={"workers": 1, "checkpoint_steps": 7})).restore(tensors, header)


@pytest.mark.parametrize("damage", ["missing", "misshapen"])
def test_a_state_with_a_damaged_tensor_is_refused_and_changes_nothing(damage):
    tensors, header = run(trainer(), 0, 2).state()
    name = "adam.W_dec.exp_avg"
    tensors = {**tensors, name: tensors[name].T} if damage == "misshapen" else {**tensors}
    if damage == "missing":
        del tensors[name]
    subject = trainer(seed=1)
    before = subject.state()[0]
    with pytest.raises(BadInput, match=r"no tensor adam.W_dec.exp_avg of torch.float32 \[48, 16\]"):
        subject.restore(tensors, header)
    assert all(torch.equal(tensor, before[key]) for key, tensor in subject.state()[0].items())


def test_the_seed_decides_the_weights():
    same, again, other = (run(trainer(seed=seed), 0, 10).finished().W_dec for seed in (1, 1, 2))
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_nan_is_reported_with_its_step_when_numbers_are_read(value):
    subject = run(trainer(), 0, 3)
    bad = planted(TRAIN.batch_tokens, 3)
    bad[5, 2] = value
    subject.step(bad.chunk(2), alone)
    run(subject, 4, 6)
    for read in (subject.metrics, subject.state, subject.finished):
        with pytest.raises(Diverged, match=r"loss=(nan|inf) at step 3;") as caught:
            read()
        assert isinstance(caught.value, RaysaeError)
        assert isinstance(caught.value, FloatingPointError)


def test_activations_of_another_width_are_refused():
    with pytest.raises(BadInput, match="activations of width 7; this SAE reads d_in=16"):
        trainer().step([torch.zeros(32, 7)] * 2, alone)


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf")])
def test_an_input_scale_that_cannot_be_is_refused(scale):
    with pytest.raises(BadInput, match="input_scale="):
        SAETrainer(build("relu", 4, 8, 1, 0), LOSS, TRAIN, 1, scale)


def test_metrics_are_means_over_the_steps_since_they_were_last_read():
    loss = LossConfig(l1=0.02, decorrelation=0.5, aux=0.25)
    subject = run(trainer("relu", loss=loss), 0, 5)
    first = subject.metrics()
    assert first["step"] == 5
    terms = sum(first[name] for name in (*TERMS, "decorrelation"))
    assert first["loss"] == pytest.approx(terms, rel=1e-6)
    x = [shard * subject.input_scale for shard in planted(TRAIN.batch_tokens, 5).chunk(2)]
    outputs = [subject.sae(shard) for shard in x]
    run(subject, 5, 6)
    second = subject.metrics()
    errors = sum(float((o.reconstruction - s).square().sum()) for o, s in zip(outputs, x, strict=True))
    variance = sum(float((s - s.mean(dim=0)).square().sum()) for s in x)
    assert second["fvu"] == pytest.approx(errors / variance, rel=1e-5)
    assert second["l0"] == pytest.approx(sum(int((o.latents > 0).sum()) for o in outputs) / TRAIN.batch_tokens)


def test_batch_topk_recovers_a_planted_orthogonal_dictionary():
    d, active, steps = 32, 3, 400
    rotation = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(5)))[0]
    x = planted(4096, 10_000, d, active) @ rotation
    train = TrainConfig(steps=steps, batch_tokens=512)
    scale = float((d / x.square().sum(dim=1).mean()).sqrt())
    subject = SAETrainer(build("batch_topk", d, 2 * d, active, 0), LossConfig(), train, active, scale)
    for step in range(steps):
        subject.step((planted(512, step, d, active) @ rotation).chunk(2), alone)
    sae = subject.finished()
    assert float((rotation @ sae.W_dec.T).amax(dim=1).mean()) > 0.95
    output = sae(x)
    assert float((output.latents > 0).float().sum(dim=1).mean()) == pytest.approx(active, rel=0.15)  # the threshold
    assert float((output.reconstruction - x).square().sum() / (x - x.mean(dim=0)).square().sum()) < 0.05


def test_one_thread_and_two_agree_closely():
    torch.set_num_threads(2)
    two = run(trainer(), 0, 20).finished()
    torch.set_num_threads(1)
    torch.testing.assert_close(run(trainer(), 0, 20).finished().W_dec, two.W_dec, rtol=1e-4, atol=1e-4)
