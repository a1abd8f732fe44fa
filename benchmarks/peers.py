"""One optimizer step of other libraries' SAE trainers on given activations, each through its own shipped code.

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
from typing import Any

import torch

os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("TQDM_DISABLE", "1")

Step = Callable[[], object]
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
STEADY_STEP = 2000
"""Past dictionary_learning's warm-ups, so that its steady branches run."""


def missing() -> list[str]:
    return [name for name, module in LIBRARIES.items() if importlib.util.find_spec(module) is None]


def build(
    architecture: str, x: torch.Tensor, d_sae: int, k: int, lr: float, bias: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, Step]:
    """Name -> step, the name ending in its precision. `bias` maps encoder rows to the encoder bias that gives the
    density asked for, where the architecture has no budget."""
    absent, steps = missing(), {}
    if "sae-lens" not in absent and architecture in SAELENS:
        for precision in ("float32", "bfloat16"):
            steps[f"sae-lens {precision}"] = _saelens(architecture, x, d_sae, k, lr, bias, precision == "bfloat16")
        if architecture == "topk":  # its default rescaling cannot be differentiated through sparse activations
            sparse = {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False}
            steps["sae-lens, sparse activations float32"] = _saelens(architecture, x, d_sae, k, lr, bias, False, sparse)
    if "dictionary-learning" not in absent and architecture in DICTIONARY_LEARNING:
        steps["dictionary-learning float32"] = _dictionary_learning(architecture, x, d_sae, k, lr, bias)
    if "sparsify" not in absent and architecture == "topk":
        for optimizer in ("adam", "signum"):
            steps[f"sparsify, {optimizer} float32"] = _sparsify(x, d_sae, k, lr, optimizer)
    return steps


def _saelens(
    architecture: str,
    x: torch.Tensor,
    d_sae: int,
    k: int,
    lr: float,
    bias: Callable[[torch.Tensor], torch.Tensor],
    autocast: bool,
    extra: dict[str, Any] | None = None,
) -> Step:
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
    if not budget:
        sae.b_enc.data = bias(sae.W_enc.data.T)
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=len(x) * 10**6,
            train_batch_size_samples=len(x),
            lr=lr,
            lr_end=lr / 10,
            autocast=autocast,
            device=str(x.device),
        ),
        sae=sae,
        data_provider=iter(()),
    )

    def step() -> None:
        trainer.step(x)
        trainer.n_training_steps += 1

    return step


def _dictionary_learning(
    architecture: str, x: torch.Tensor, d_sae: int, k: int, lr: float, bias: Callable[[torch.Tensor], torch.Tensor]
) -> Step:
    file, name = DICTIONARY_LEARNING[architecture]
    module = importlib.import_module(f"dictionary_learning.trainers.{file}")
    options: dict[str, Any] = {"k": k} if architecture.endswith("topk") else {"sparsity_warmup_steps": 1}
    trainer = getattr(module, name)(
        steps=10**6, activation_dim=x.shape[1], dict_size=d_sae, layer=0, lm_name="", lr=lr, warmup_steps=1, seed=0,
        device=str(x.device), **options,
    )  # fmt: skip
    if architecture == "relu":
        trainer.ae.encoder.bias.data = bias(trainer.ae.encoder.weight.data)
    elif architecture == "jumprelu":
        trainer.ae.b_enc.data = bias(trainer.ae.W_enc.data.T)
    done = STEADY_STEP

    def step() -> None:
        nonlocal done
        done += 1
        trainer.update(done, x)

    return step


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


class _Endless(torch.utils.data.Dataset):
    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.zeros(self.tokens, dtype=torch.long)}

    def select(self, indices: Any) -> "_Endless":
        return self


def _sparsify(x: torch.Tensor, d_sae: int, k: int, lr: float, optimizer: str) -> Step:
    if x.device.type == "cpu":
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # its decoder kernel is for CUDA
    with contextlib.redirect_stdout(io.StringIO()):
        from sparsify import SaeConfig, TrainConfig, Trainer

        model = _Emitter(x)
        config = TrainConfig(
            SaeConfig(expansion_factor=d_sae // x.shape[1], k=k), batch_size=1, lr=lr, optimizer=optimizer,
            hookpoints=["block"], log_to_wandb=False, save_every=10**9, lr_warmup_steps=1,
        )  # fmt: skip
        config.exclude_tokens = [-1]
        trainer = Trainer(config, _Endless(len(x)), model)
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

    return step
