"""The state of one SAE in training: what a step reads and writes, and how it is put down and taken up again.

Data parallel without knowing by what: a batch is cut into `train.shards` shards, a worker holds a contiguous, equal
part of them, and `all_reduce` sums a flat tensor over workers. Shards are summed pairwise, (0+1)+(2+3), so 1, 2, 4, ...
workers give the same bits, if `all_reduce` itself sums pairwise (two workers always do) and every process computes with
the same number of threads.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from raysae.errors import BadInput, RaysaeError
from raysae.saes import SparseAutoencoder
from raysae.training.dead_latents import DeadLatents
from raysae.training.guides import Guides, LinearProbe
from raysae.training.hold import Hold, HoldName
from raysae.training.losses import decorrelation
from raysae.training.optim import adam, k_at, lr_at, penalties_at, threshold_weight_at
from raysae.training.resample import due, resample, worst_tokens
from raysae.training.step import STATISTICS, TERMS, StepSums, differentiate, move, update
from raysae.training.watch import Watched
from raysae.types.learning import LossConfig, TrainConfig
from raysae.types.part import run_only

AllReduce = Callable[[Tensor], object]
"""Sums a flat float32 tensor over the workers, in place."""
NOT_OF_A_RUN = {"seeds"} | run_only(TrainConfig)
"""Fields of TrainConfig that may differ between a checkpoint and the run that takes it up."""
WINDOW = (*STATISTICS, "decorrelation", "loss", "steps", "tokens")


class Diverged(RaysaeError, FloatingPointError):
    """The loss became NaN or infinite; the message names the step and the loss."""


class SAETrainer:
    """`step` until `steps_done == train.steps`, then `finished`.

    `sae` is trained in place, on the device it is on, in units where activations are multiplied by `input_scale`: the
    constant that makes their mean squared norm d_in, so that one learning rate and one L1 weight fit any model. With
    `hold`, a part of it stays as it is now, or near it. With `classes`, a probe of so many is trained beside it.
    """

    def __init__(
        self,
        sae: SparseAutoencoder,
        loss: LossConfig,
        train: TrainConfig,
        k: int,
        input_scale: float,
        hold: HoldName | None = None,
        classes: int = 0,
    ) -> None:
        if not (math.isfinite(input_scale) and input_scale > 0):
            raise BadInput(
                f"input_scale={input_scale}", "allowed: a positive number", "look for NaN in the activations"
            )
        self.sae, self.loss, self.train, self.k = sae.requires_grad_(False), loss, train, k
        self.input_scale = input_scale
        self.hold = Hold(hold, self.sae) if hold else None
        self.steps_done = 0
        device = sae.W_enc.device
        self.dead = DeadLatents(sae.d_sae, train.dead_after_tokens, device)
        self._optimizer = adam(sae.parameters(), train.lr)
        self.probe = LinearProbe(sae.d_sae, classes).to(device).requires_grad_(False) if classes else None
        self._probe_optimizer = adam(self.probe.parameters(), train.lr) if self.probe else None
        self._watched: Watched | None = None
        self._free: list[StepSums] = []
        self._window = torch.zeros(len(WINDOW), dtype=torch.float64, device=device)
        self._first_bad = torch.tensor([-1.0, 0.0], dtype=torch.float64, device=device)  # step, loss

    @torch.no_grad()
    def step(
        self,
        shards: Sequence[Float[Tensor, "b d_in"]],
        all_reduce: AllReduce,
        guides: Sequence[Guides] | None = None,
        first_shard: int = 0,
    ) -> None:
        """One optimizer step on this worker's shards of the batch, in raw units, all of equal length; `guides` are
        what the probe and the temporal term know of each, `first_shard` is the number of the first in the batch.

        Waits for the device only to list the dead latents. Raises BadInput on a width that is not d_in.
        """
        for shard in shards:
            if shard.shape[1] != self.sae.d_in:
                raise BadInput(
                    f"activations of width {shard.shape[1]}", f"this SAE reads d_in={self.sae.d_in}", "train a new SAE"
                )
        scaled = [shard.to(self.sae.W_enc.device, torch.float32) * self.input_scale for shard in shards]
        if self.steps_done == 0:
            mean = _pairwise([x.mean(dim=0) for x in scaled])
            all_reduce(mean)
            self.sae.b_dec.copy_(mean / self.train.shards)
        self.dead.refresh(self.steps_done)
        if due(self.steps_done, self.train.steps, self.train.resample_steps):
            self._resample(scaled, all_reduce, first_shard)
        sums = self._sum(list(zip(scaled, guides or [None] * len(scaled), strict=True)))
        all_reduce(sums.flat)
        excess = self._decorrelate(sums)
        if self.hold:
            self.hold.silence(sums)
        lr = lr_at(self.steps_done, self.train)
        update(self.sae, self._optimizer, sums, lr)
        if self.probe and self._probe_optimizer:
            move(self.probe, self._probe_optimizer, sums.of_probe, lr)
        if self.hold:
            self.hold.restrain(self.sae)
        tokens = len(scaled[0]) * self.train.shards
        self.sae.observe(sums.statistics[-1], threshold_weight_at(self.steps_done, self.train))
        self.dead.update(sums.fired, tokens)
        self._record(sums, excess, tokens)
        self._free.append(sums)
        self.steps_done += 1

    def watch(self, x: Float[Tensor, "n d_in"], label: Int64[Tensor, " n"] | None = None) -> None:
        """From now on `metrics` also says how the SAE, and the probe, do on these FIT tokens, in raw units."""
        device = self.sae.W_enc.device
        self._watched = Watched(x.to(device) * self.input_scale, None if label is None else label.to(device))

    def metrics(self) -> dict[str, float]:
        """Means over the steps since the last call (fvu about each shard's own mean); raises Diverged."""
        window = dict(zip(WINDOW, self._window.tolist(), strict=True))
        self._window.zero_()
        self._check_finite()
        steps, tokens = max(1.0, window["steps"]), max(1.0, window["tokens"])
        last = max(0, self.steps_done - 1)
        means = {name: window[name] / steps for name in ("loss", *TERMS, "decorrelation")}
        accuracy = {"probe_accuracy": window["named"] / max(1.0, window["labelled"])} if self.probe else {}
        numbers = {
            "step": float(self.steps_done),
            **means,
            "fvu": window["squared_error"] / window["variance"] if window["variance"] else 0.0,
            "l0": window["active"] / tokens,
            "dead_fraction": float(self.dead.fraction()),
            "lr": lr_at(last, self.train),
            "k": k_at(last, self.k, self.train),
            **accuracy,
        }
        if self._watched:
            numbers |= self._watched.numbers(self.sae, self.probe)
        if "fit_probe_accuracy" in numbers:
            numbers["leakage_gap"] = numbers["probe_accuracy"] - numbers["fit_probe_accuracy"]
        return numbers

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything the next step depends on: tensors for safetensors, and plain JSON. Raises Diverged."""
        self._check_finite()
        return {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in self._tensors().items()
        }, self._header()

    def restore(self, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
        """Take up a `state`; the steps that follow are, bit for bit, those that would have followed there.

        Raises BadInput for the state of another configuration or one with a tensor missing or misshapen.
        """
        if not isinstance(header.get("step"), int):
            raise _foreign(f"step={header.get('step')}")
        mine = self._header() | {"step": header["step"]}
        for name in mine.keys() | header.keys():
            if mine.get(name) != header.get(name):
                raise _foreign(f"{name}={header.get(name)} where this run has {mine.get(name)}")
        self._start_moments()
        targets = self._tensors() | {"dead.listed": tensors.get("dead.listed", self.dead.listed)}
        for name, target in targets.items():
            found = tensors.get(name)
            if found is None or found.shape != target.shape or found.dtype != target.dtype:
                raise _foreign(f"no tensor {name} of {target.dtype} {list(target.shape)}")
        self.steps_done = header["step"]
        self.dead.listed = tensors["dead.listed"].to(self.dead.listed.device).clone()
        for name, target in self._tensors().items():
            target.copy_(tensors[name])
        for optimizer in self._optimizers():
            for state in optimizer.state.values():
                state["step"].fill_(self.steps_done)

    def finished(self) -> SparseAutoencoder:
        """A copy in raw units: the input scale folded in, decoder rows of unit norm. Raises Diverged."""
        self._check_finite()
        return self.sae.unscaled(self.input_scale)

    def _resample(self, shards: Sequence[Float[Tensor, "b d_in"]], all_reduce: AllReduce, first_shard: int) -> None:
        """Every worker finds the same tokens: those of shard s lie in part s of the buffer.

        A held latent begins again at the decoder row it has, not at a token; with a frozen encoder it cannot.
        """
        dead = self.dead.relist()
        if not len(dead) or (self.hold and self.hold.name == "frozen_encoder"):
            return
        each = -(-len(dead) // self.train.shards)
        buffer = self.sae.W_dec.new_zeros(self.train.shards, each, self.sae.d_in)
        if not self.hold:
            for place, x in enumerate(shards, first_shard):
                buffer[place] = worst_tokens(self.sae, x, each)
            all_reduce(buffer)
        resample(self.sae, self._optimizer, dead, buffer.flatten(0, 1))
        self.dead.silent_tokens[dead] = 0
        self.dead.listed = dead[:0]

    def _sum(self, shards: Sequence[tuple[Float[Tensor, "b d_in"], Guides | None]]) -> StepSums:
        """Pairwise over shards; each is differentiated into a buffer of its own, then added."""
        if len(shards) > 1:
            half = len(shards) // 2
            left, right = self._sum(shards[:half]), self._sum(shards[half:])
            left.flat += right.flat
            self._free.append(right)
            return left
        sae = self.sae
        sums = self._free.pop() if self._free else StepSums(sae, self.probe)
        k = k_at(self.steps_done, self.k, self.train)
        (x, guides), loss = shards[0], penalties_at(self.steps_done, self.loss, self.train)
        many, precision = self.train.shards, self.train.precision
        differentiate(sae, x, k, loss, self.dead.listed, many, sums, precision, guides, self.probe)
        return sums

    def _decorrelate(self, sums: StepSums) -> Float[Tensor, ""]:
        """Depends on the decoder alone, so every worker adds the same after the sum."""
        if not self.loss.decorrelation:
            return self._window.new_zeros(())
        excess, gradient = decorrelation(self.sae.W_dec, self.steps_done, self.loss.decorrelation_form)
        sums.W_dec.add_(gradient, alpha=self.loss.decorrelation)
        return excess.double() * self.loss.decorrelation

    def _record(self, sums: StepSums, excess: Float[Tensor, ""], tokens: int) -> None:
        statistics = sums.statistics.double()
        loss = statistics[: len(TERMS)].sum() + excess
        self._window[:-2] += torch.cat([statistics, torch.stack([excess, loss])])
        self._window[-2] += 1
        self._window[-1] += tokens
        now_bad = ~loss.isfinite() & (self._first_bad[0] < 0)
        bad = torch.stack([torch.full_like(loss, self.steps_done), loss])
        self._first_bad = torch.where(now_bad, bad, self._first_bad)

    def _check_finite(self) -> None:
        step, loss = self._first_bad.tolist()
        if step >= 0:
            raise Diverged(
                f"training diverged: loss={loss} at step {int(step)}; allowed: a finite loss; "
                f"type train.lr={self.train.lr / 3:.2g}, or look for NaN in the activations"
            )

    def _start_moments(self) -> None:
        for optimizer in self._optimizers():
            for parameter in optimizer.param_groups[0]["params"]:
                state = optimizer.state[parameter]
                if not state:
                    state["step"] = torch.zeros((), device=parameter.device)
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)

    def _optimizers(self) -> list[torch.optim.Adam]:
        return [self._optimizer] + ([self._probe_optimizer] if self._probe_optimizer else [])

    def _tensors(self) -> dict[str, Shaped[Tensor, "..."]]:
        """The live tensors of the state, by the names of the checkpoint."""
        self._start_moments()
        tensors: dict[str, Tensor] = {f"sae.{name}": tensor for name, tensor in self.sae.state_dict().items()}
        named = dict(self.sae.named_parameters())
        if self.probe:
            named |= {f"probe.{name}": parameter for name, parameter in self.probe.named_parameters()}
            tensors |= {name: named[name] for name in named if name.startswith("probe.")}
        moments = {parameter: state for o in self._optimizers() for parameter, state in o.state.items()}
        for name, parameter in named.items():
            tensors |= {f"adam.{name}.{moment}": moments[parameter][moment] for moment in ("exp_avg", "exp_avg_sq")}
        tensors |= {"dead.silent_tokens": self.dead.silent_tokens, "dead.listed": self.dead.listed}
        return tensors | {"window": self._window, "first_bad": self._first_bad}

    def _header(self) -> dict[str, Any]:
        sae = self.sae
        return {
            "format": 1,
            "step": self.steps_done,
            "sae": [sae.architecture, sae.d_in, sae.d_sae, self.k],
            "input_scale": self.input_scale,
            "classes": 0 if self.probe is None else len(self.probe.bias),
            "hold": self.hold and self.hold.name,
            "loss": self.loss.model_dump(mode="json"),
            "train": self.train.model_dump(mode="json", exclude=NOT_OF_A_RUN),
        }


def _pairwise(tensors: Sequence[Tensor]) -> Tensor:
    if len(tensors) == 1:
        return tensors[0].clone()
    half = len(tensors) // 2
    return _pairwise(tensors[:half]) + _pairwise(tensors[half:])


def _foreign(difference: str) -> BadInput:
    return BadInput(
        f"a checkpoint with {difference}",
        "allowed: one of this configuration",
        "remove the checkpoint or restore the YAML",
    )
