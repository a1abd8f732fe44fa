"""Causal interchange: toy models that read two variables off a rotated activation, SAEs that know most values."""

from collections import defaultdict
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from raysae.falsification.criterion import COHERENCE, SEEDS_FOR_GO
from raysae.falsification.metrics import causal
from raysae.falsification.metrics.causal import Unit
from raysae.falsification.metrics.documents import MAIN
from raysae.falsification.metrics.matching import permuted_rows
from raysae.falsification.simulation.factors import orthogonal
from raysae.falsification.simulation.trial import (
    FEWEST_UNITS,
    PLANTED_RATE,
    PLANTED_UNITS,
    POWER_NEEDED,
    Simulation,
    World,
    seed_of,
)
from raysae.types.metric import Metric

VALUES, IDLE = 10, 8
"""Values of each of the two variables that are read, and of the one that is not."""
D = 2 * VALUES + IDLE
UNITS = 2 * VALUES
"""Of one machine."""
PAIRS, DRAWS = 20, 30
"""Pairs per value and matched sets: fewer than a run has, so a unit is harder to tell from its null."""
FIT_TOKENS, DOCUMENT_TOKENS = 600, 20
READ_ABOVE = 0.5
"""A readout answers with a value only if its direction is present by more than half."""
WEAK = 0.4
"""How much of a value's direction a latent carries that does not know it."""
NAMES = [str(value) for value in range(VALUES)]


class Machine:
    """The model, and the activations it is edited at."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rotation = orthogonal(rng, D)

    def activations(self, tokens: Int[Tensor, "n 3"]) -> Float[Tensor, "n D"]:
        """A one-hot for each of the three variables, rotated."""
        x = torch.zeros(len(tokens), D)
        x.scatter_(1, tokens + torch.tensor([0, VALUES, UNITS]), 1.0)
        return x @ self.rotation

    def __call__(self, tokens: Tensor, positions: Tensor, delta: Tensor) -> Tensor:
        """Position 0 predicts the first variable, 1 the second, 2 what the text says; VALUES where none is present."""
        x = (self.activations(tokens) + delta) @ self.rotation.T
        none = torch.full((len(x), 1), READ_ABOVE)
        first, second = (torch.cat([part, none], dim=1).argmax(dim=1) for part in x[:, :UNITS].split(VALUES, dim=1))
        return torch.stack([first, second, tokens[:, 2]], dim=1)


class Untrained(Machine):
    """The same architecture with other weights: it reads where nothing was written."""

    def __init__(self, rng: np.random.Generator, like: Machine) -> None:
        super().__init__(rng)
        self.like = like

    def activations(self, tokens: Tensor) -> Tensor:
        return self.like.activations(tokens)


class Court:
    """One machine and one SAE."""

    def __init__(self, rng: np.random.Generator, machine: Machine, known: Bool[np.ndarray, " UNITS"]) -> None:
        self.rng, self.machine = rng, machine
        order = torch.from_numpy(rng.permutation(D))
        strength = torch.ones(D)
        strength[:UNITS] = torch.from_numpy(np.where(known, 1.0, WEAK)).float()
        directions = machine.rotation if not isinstance(machine, Untrained) else machine.like.rotation
        self.W_dec, self.strength = directions[order], strength[order]
        self.fit = tokens_of(rng, FIT_TOKENS)
        self.fit_latents = self.encode(machine.activations(self.fit))

    def encode(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        return torch.relu(x @ self.W_dec.T) * self.strength

    def units(self, number: int, draws: int = DRAWS) -> dict[str, list[Unit]]:
        """Of both variables: with the latents chosen by the labels, by labels exchanged between documents (N6), and
        with a matched set in the place of the chosen; ceiling and matched sets are the same for all three."""
        found: dict[str, list[Unit]] = {}
        for variable in (0, 1):
            for how, units in self._units(number, variable, draws).items():
                found.setdefault(how, []).extend(units)
        return found

    def _units(self, number: int, variable: int, draws: int) -> dict[str, list[Unit]]:
        base, source, expected = self.pairs(variable)
        x_base, x_source = self.machine.activations(base), self.machine.activations(source)
        h_base, h_source = self.encode(x_base), self.encode(x_source)

        def edit(latents: Int[np.ndarray, " c"]) -> Tensor:
            return causal.interchange(h_base, h_source, self.W_dec, torch.from_numpy(latents))

        values = self.fit[:, variable].numpy()
        elsewhere = permuted_rows(np.arange(FIT_TOKENS) // DOCUMENT_TOKENS, seed_of(self.rng))
        latents, misled = (self._choose(labels) for labels in (values, values[elsewhere]))
        rates = (self.fit_latents > 0).double().mean(dim=0).numpy()
        sizes = causal.step_sizes(h_base, h_source, self.W_dec)
        sets = causal.matched_sets(rates, latents.tolist(), draws + 1, seed_of(self.rng), sizes=sizes)
        edits = {MAIN: edit(latents), "permuted_labels": edit(misled), "matched_latents": edit(sets[-1])}
        means = causal.class_means(self.machine.activations(self.fit), self.fit[:, variable], VALUES)
        ceilings = (
            means[source[:, variable]] - means[base[:, variable]],
            causal.class_subspace(x_base, x_source, means),
        )
        directions = [causal.random_direction(delta, seed_of(self.rng)) for delta in edits.values()]
        deltas = torch.cat([*edits.values(), *directions, *ceilings, *(edit(taken) for taken in sets[:-1])])
        times = len(deltas) // len(base)
        found = causal.joint_success(
            self.machine, base.repeat(times, 1), torch.zeros(len(deltas), dtype=torch.int64), deltas,
            torch.arange(3).expand(len(deltas), 3), expected.repeat(times, 1), batch=len(deltas),
        )  # fmt: skip
        j = found.view(times, VALUES, PAIRS).double().mean(dim=2).numpy()
        first = 2 * len(edits)
        return {
            how: [
                Unit(
                    variable=f"{number}.{variable}",
                    value=name,
                    pairs=PAIRS,
                    latents=float(j[e, value]),
                    ceiling=float(j[first : first + 2, value].max()),
                    matched=tuple(j[first + 2 :, value].tolist()),
                    random_direction=float(j[len(edits) + e, value]),
                    sets=len(causal.different(sets[:-1])[0]),
                )
                for value, name in enumerate(NAMES)
            ]
            for e, how in enumerate(edits)
        }

    def _choose(self, values: Int[np.ndarray, " n"]) -> Int[np.ndarray, " c"]:
        chosen = causal.select_latents(self.fit_latents, values, NAMES, 1)
        return np.array(sorted(latent for taken in chosen.values() for latent in taken), dtype=np.int64)

    def pairs(self, variable: int) -> tuple[Int[Tensor, "n 3"], Int[Tensor, "n 3"], Int[Tensor, "n 3"]]:
        """Base, source and what the program expects; informative, since the two differ in everything."""
        base = tokens_of(self.rng, VALUES * PAIRS)
        limits = np.array([VALUES, VALUES, IDLE])
        source = (base + torch.from_numpy(self.rng.integers(1, limits, size=base.shape))) % torch.from_numpy(limits)
        source[:, variable] = torch.arange(VALUES).repeat_interleave(PAIRS)
        step = torch.from_numpy(self.rng.integers(1, VALUES, len(base)))
        base[:, variable] = (source[:, variable] + step) % VALUES
        expected = base.clone()
        expected[:, variable] = source[:, variable]
        return base, source, expected


def tokens_of(rng: np.random.Generator, count: int) -> Int[Tensor, "count 3"]:
    return torch.from_numpy(rng.integers(0, [VALUES, VALUES, IDLE], size=(count, 3)))


def coherence(rng: np.random.Generator, count: int, rate: float | None, labels_permuted: bool = False) -> Metric:
    """Five SAEs per machine that know each value with probability `rate`; with None one of the nulls stands in their
    place. `labels_permuted`: they know all, and their latents are chosen on labels of other documents (N6)."""
    arms: dict[str, list[list[Unit]]] = defaultdict(lambda: [[] for _ in range(SEEDS_FOR_GO)])
    for number in range(count // UNITS):
        machine = Machine(rng)
        known = rng.random(UNITS) < (1.0 if rate is None else rate)
        for seed in range(SEEDS_FOR_GO):
            for arm, units in Court(rng, machine, known).units(number).items():
                arms[arm][seed] += units
            arms["random_model"][seed] += Court(rng, Untrained(rng, machine), known).units(number, draws=2)[MAIN]
    matched = arms.pop("matched_latents")
    if labels_permuted:
        arms[MAIN] = arms["permuted_labels"]
    elif rate is None:
        direction = [[unit._replace(latents=unit.random_direction) for unit in seed] for seed in arms[MAIN]]
        arms[MAIN] = (arms["random_model"], matched, direction)[rng.integers(3)]
    return causal.summarise(arms, pairs=PAIRS)


SIMULATION: Simulation = {
    "labels": World(
        "The SAEs are perfect, their latents are chosen on labels exchanged between documents (N6).",
        partial(coherence, count=FEWEST_UNITS, rate=1.0, labels_permuted=True),
        FEWEST_UNITS,
    ),
    "null": World(
        "An untrained model, matched latents or a random direction, in turn at random, stand in the place of the real.",
        partial(coherence, count=FEWEST_UNITS, rate=None),
        FEWEST_UNITS,
    ),
    "threshold": World(
        f"A value has a latent that carries it with probability {COHERENCE:g}, the threshold itself.",
        partial(coherence, count=FEWEST_UNITS, rate=COHERENCE),
        FEWEST_UNITS,
    ),
    "truth": World(
        f"A value has a latent that carries it with probability {PLANTED_RATE:g}; there are {PLANTED_UNITS}.",
        partial(coherence, count=PLANTED_UNITS, rate=PLANTED_RATE),
        PLANTED_UNITS,
        claim_holds=True,
        needed=POWER_NEEDED,
    ),
}
