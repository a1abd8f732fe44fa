"""Other libraries' SAE trainers on given activations, each through its own shipped code.

A step reads the tensor that the trainer was built on, so a new batch is written into it.

sae-lens: `SAETrainer.step`. dictionary-learning: `<Trainer>.update`. sparsify: `Trainer.fit`, over a model whose one
hooked module emits the activations and waits between batches. They come from the extra `[bench]`; a library that is
not there is left out by name.
"""

import contextlib
import importlib
import importlib.util
import io
import os
import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import torch

os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("TQDM_DISABLE", "1")

Step = Callable[[], object]
Bias = Callable[[torch.Tensor], torch.Tensor]
"""Encoder rows -> the encoder bias that gives the density asked for, where the architecture has no budget."""


class Peer(NamedTuple):
    step: Step
    reconstruct: Callable[[torch.Tensor], torch.Tensor]
    """By the rule that it trains with: of a batch top-k, the largest of this batch."""


Maker = Callable[[], Peer]


class Course(NamedTuple):
    """What all trainers are told alike; each has its own defaults for the rest."""

    lr: float
    steps: int = 10**6
    warmup: int = 1
    decay: int = 0
    """Last steps, over which the learning rate falls to 0."""
    begin: int = 0
    """Steps that a trainer is told are done: past dictionary_learning's warm-ups its steady branches run."""


LIBRARIES = {"sae-lens": "sae_lens", "dictionary-learning": "dictionary_learning", "sparsify": "sparsify"}
SAELENS = {
    "relu": ("standard_sae", "StandardTrainingSAE", {"l1_coefficient": 1.0}),
    "topk": ("topk_sae", "TopKTrainingSAE", {}),
    "batch_topk": ("batchtopk_sae", "BatchTopKTrainingSAE", {}),
    "jumprelu": ("jumprelu_sae", "JumpReLUTrainingSAE", {}),
}
DICTIONARY_LEARNING = {
    "relu": ("standard", "StandardTrainer"),
    "topk": ("top_k", "TopKTrainer"),
    "batch_topk": ("batch_top_k", "BatchTopKTrainer"),
    "jumprelu": ("jumprelu", "JumpReluTrainer"),
}


def missing() -> list[str]:
    return [name for name, module in LIBRARIES.items() if importlib.util.find_spec(module) is None]


def build(
    architecture: str, x: torch.Tensor, d_sae: int, k: int, course: Course, bias: Bias | None = None
) -> dict[str, Maker]:
    """Name -> what makes the trainer, the name ending in its precision."""
    absent, makers = missing(), dict[str, Maker]()
    if "sae-lens" not in absent and architecture in SAELENS:
        for precision in ("float32", "bfloat16"):
            makers[f"sae-lens {precision}"] = partial(
                _saelens, architecture, x, d_sae, k, course, bias, precision == "bfloat16"
            )
        if architecture == "topk":  # its default rescaling cannot be differentiated through sparse activations
            sparse = {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False}
            makers["sae-lens, sparse activations float32"] = partial(
                _saelens, architecture, x, d_sae, k, course, bias, False, sparse
            )
    if "dictionary-learning" not in absent and architecture in DICTIONARY_LEARNING:
        makers["dictionary-learning float32"] = partial(_dictionary_learning, architecture, x, d_sae, k, course, bias)
    if "sparsify" not in absent and architecture == "topk":
        for optimizer in ("adam", "signum"):
            makers[f"sparsify, {optimizer} float32"] = partial(_sparsify, x, d_sae, k, course, optimizer)
    return makers


def _saelens(
    architecture: str,
    x: torch.Tensor,
    d_sae: int,
    k: int,
    course: Course,
    bias: Bias | None,
    autocast: bool,
    extra: dict[str, Any] | None = None,
) -> Peer:
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    file, name, options = SAELENS[architecture]
    module = importlib.import_module(f"sae_lens.saes.{file}")
    budget = {"topk": {"k": k}, "batch_topk": {"k": float(k)}}.get(architecture, {})
    config = getattr(module, f"{name}Config")(
        d_in=x.shape[1], d_sae=d_sae, device=str(x.device), **options, **budget, **(extra or {})
    )
    torch.manual_seed(0)
    sae = getattr(module, name)(config)
    if bias and not budget:
        sae.b_enc.data = bias(sae.W_enc.data.T)
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=len(x) * course.steps,
            train_batch_size_samples=len(x),
            lr=course.lr,
            lr_end=course.lr / 10,
            lr_warm_up_steps=course.warmup,
            lr_decay_steps=course.decay,
            autocast=autocast,
            device=str(x.device),
        ),
        sae=sae,
        data_provider=iter(()),
    )

    def step() -> None:
        trainer.step(x)
        trainer.n_training_steps += 1

    return Peer(step, sae)


def _dictionary_learning(
    architecture: str, x: torch.Tensor, d_sae: int, k: int, course: Course, bias: Bias | None
) -> Peer:
    file, name = DICTIONARY_LEARNING[architecture]
    module = importlib.import_module(f"dictionary_learning.trainers.{file}")
    options: dict[str, Any] = {"k": k} if architecture.endswith("topk") else {"sparsity_warmup_steps": 1}
    trainer = getattr(module, name)(
        steps=course.steps, activation_dim=x.shape[1], dict_size=d_sae, layer=0, lm_name="", lr=course.lr,
        warmup_steps=course.warmup, decay_start=course.steps - course.decay if course.decay else None, seed=0,
        device=str(x.device), **options,
    )  # fmt: skip
    if bias and architecture == "relu":
        trainer.ae.encoder.bias.data = bias(trainer.ae.encoder.weight.data)
    elif bias and architecture == "jumprelu":
        trainer.ae.b_enc.data = bias(trainer.ae.W_enc.data.T)
    number = count(course.begin)
    by_batch = {"use_threshold": False} if architecture == "batch_topk" else {}
    return Peer(
        lambda: trainer.update(next(number), x), lambda rows: trainer.ae.decode(trainer.ae.encode(rows, **by_batch))
    )


class _Emitter(torch.nn.Module):
    """To sparsify a language model: its one hooked module returns the activations, and each batch waits for a step."""

    class _Config:
        num_hidden_layers = 1

    class _Base(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = torch.nn.Identity()

    def __init__(self, x: torch.Tensor) -> None:
        super().__init__()
        self.x, self.config, self.base_model, self.device = x[None], self._Config(), self._Base(), x.device
        self.dummy_inputs = {"input_ids": torch.zeros(1, len(x), dtype=torch.long, device=x.device)}
        self.live, self.go, self.done = False, threading.Semaphore(0), threading.Semaphore(0)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        if self.live:
            self.done.release()
            self.go.acquire()
        return self.base_model.block(self.x)


class _Batches(torch.utils.data.Dataset):
    def __init__(self, steps: int, tokens: int) -> None:
        self.steps, self.tokens = steps, tokens

    def __len__(self) -> int:
        return self.steps + 1  # `fit` saves and ends behind the last, which is never asked for

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.zeros(self.tokens, dtype=torch.long)}

    def select(self, indices: Any) -> "_Batches":
        return self


def _sparsify(x: torch.Tensor, d_sae: int, k: int, course: Course, optimizer: str) -> Peer:
    if x.device.type == "cpu":
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # its decoder kernel is for CUDA
    with contextlib.redirect_stdout(io.StringIO()):
        from sparsify import SaeConfig, TrainConfig, Trainer

        model = _Emitter(x)
        config = TrainConfig(
            SaeConfig(expansion_factor=d_sae // x.shape[1], k=k), batch_size=1, lr=course.lr, optimizer=optimizer,
            hookpoints=["block"], log_to_wandb=False, save_every=10**9, lr_warmup_steps=course.warmup,
        )  # fmt: skip
        config.exclude_tokens = [-1]
        trainer = Trainer(config, _Batches(course.steps, len(x)), model)
    model.live = True
    threads = torch.get_num_threads()

    def fit() -> None:
        torch.set_num_threads(threads)
        trainer.fit()

    threading.Thread(target=fit, daemon=True).start()
    model.done.acquire()

    def step() -> None:
        model.go.release()
        model.done.acquire()

    def reconstruct(rows: torch.Tensor) -> torch.Tensor:
        for each in trainer.optimizers:
            if hasattr(each, "eval"):  # a schedule-free optimizer keeps the weights that count beside those it moves
                each.eval()
        return trainer.saes["block"](rows).sae_out

    return Peer(step, reconstruct)
