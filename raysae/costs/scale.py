"""Past one machine: what billions of tokens and a million latents take, as tables of `raysae plan CONFIG --scale`."""

from dataclasses import dataclass
from typing import NamedTuple

from raysae.costs.devices import DEVICES
from raysae.costs.work import ADAM_MOVES, FLOAT, forward_flops, parameters, sae_flops
from raysae.models.capture import width
from raysae.models.registry import ModelRow
from raysae.store.schema import NUMBER_BYTES
from raysae.types import Experiment

TOKENS = (10**9, 10**10, 10**11)
LATENTS = 1 << 20
GROUPS = (8, 64, 512)
"""Devices that train one SAE."""
NETWORK_GB_PER_S = 50.0
"""Of each device, 400 Gb/s: the slower of the two networks of a cluster, that between its nodes."""
READ_GB_PER_S = 5.0
"""Of a cluster's disks or object store, all readers together."""
STATE = 4 * FLOAT
"""Bytes of a trained number on its device: weight, both moments, gradient."""


class Tokens(NamedTuple):
    """What so many tokens take, once through the model and once through training."""

    tokens: int
    cache_bytes: float
    """Of the activations of the hook point that is trained on."""
    read_hours: float
    """To read them once."""
    capture_hours: float
    """Of a device."""
    train_hours: float
    """Of a device, of an SAE as configured."""
    million_hours: float
    """Of a device, of one of LATENTS latents, at the price of its operations alone."""


@dataclass(frozen=True)
class Step:
    """One step of an SAE of LATENTS latents over a group of devices, in seconds of each resource."""

    split: str
    """`data`: every device holds all latents and a share of the batch; `latents`: a share of the latents, all of the
    batch."""
    devices: int
    state_bytes: float
    """On each device."""
    network_bytes: float
    """Sent by each device."""
    products_s: float
    memory_s: float
    network_s: float

    @property
    def bottleneck(self) -> str:
        return max((self.products_s, "products"), (self.memory_s, "memory"), (self.network_s, "network"))[1]

    @property
    def step_s(self) -> float:
        """Nothing of it at the same time as the rest: the most it can take."""
        return self.products_s + self.memory_s + self.network_s


def of_tokens(experiment: Experiment, row: ModelRow, device: str, context: float) -> list[Tokens]:
    """A row for each of TOKENS; documents of `context` tokens."""
    d_in = width(row, experiment.hookpoint)
    per_hour = _products(experiment, device) * 3600
    number = NUMBER_BYTES[experiment.capture.dtype]
    forward = forward_flops(experiment, row, context)
    found = []
    for tokens in TOKENS:
        cached = tokens * d_in * number
        steps = tokens / experiment.train.batch_tokens
        adam = steps * ADAM_MOVES * parameters(experiment, d_in, d_in * experiment.sae.expansion)
        products = tokens * sae_flops(experiment, d_in, d_in * experiment.sae.expansion)
        found.append(
            Tokens(
                tokens,
                cached,
                cached / (READ_GB_PER_S * 1e9 * 3600),
                tokens * forward / per_hour,
                products / per_hour + adam / (DEVICES[device].gb_per_s * 1e9 * 3600),
                tokens * sae_flops(experiment, d_in, LATENTS) / per_hour,
            )
        )
    return found


def of_steps(experiment: Experiment, row: ModelRow, device: str) -> list[Step]:
    """Both splits over each of GROUPS. A ring sends 2 (n - 1) / n of what it sums from every device; split by latents
    that is the reconstruction, and every device reads the whole batch."""
    d_in, batch = width(row, experiment.hookpoint), experiment.train.batch_tokens
    trained = parameters(experiment, d_in, LATENTS)
    products = batch * sae_flops(experiment, d_in, LATENTS) / _products(experiment, device)
    found = []
    for devices in GROUPS:
        ring = 2 * (devices - 1) / devices
        for split, mine, summed in (("data", trained, trained), ("latents", trained / devices, batch * d_in)):
            found.append(
                Step(
                    split,
                    devices,
                    state_bytes=mine * STATE,
                    network_bytes=ring * summed * FLOAT,
                    products_s=products / devices,
                    memory_s=mine * ADAM_MOVES / (DEVICES[device].gb_per_s * 1e9),
                    network_s=ring * summed * FLOAT / (NETWORK_GB_PER_S * 1e9),
                )
            )
    return found


def crossing(experiment: Experiment, row: ModelRow) -> int:
    """Latents from which on a step sends less when it is split by latents: 2 d m numbers against d times the batch."""
    d_in = width(row, experiment.hookpoint)
    per_latent = parameters(experiment, d_in, 2) - parameters(experiment, d_in, 1)
    return -(-experiment.train.batch_tokens * d_in // per_latent)


def _products(experiment: Experiment, device: str) -> float:
    """Operations a second, at the share of the 16-bit peak that is assumed."""
    return DEVICES[device].tflops_16 * 1e12 * experiment.budget.mfu
