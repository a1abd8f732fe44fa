"""What an exhibit is, and the evidence it leaves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raysae.falsification.protocol import Protocol
from raysae.stages.capture import MAIN
from raysae.stages.court import Examination
from raysae.types import Experiment, Metric
from raysae.types.experiment import stream_seed

Plain = dict[str, Any]
"""JSON values: what is written to `metrics/` and read back."""


@dataclass(frozen=True)
class Evidence:
    """What was shown, by arm."""

    experiment: Experiment
    protocol: Protocol
    saes: dict[str, list[Plain]]
    """arm -> per seed {exhibit: what it showed}"""
    arms: dict[str, Plain] = field(default_factory=dict)
    """arm -> {comparison: what it showed}"""

    @property
    def bootstrap(self) -> dict[str, int]:
        """Replicates and seed of every resampling in a summary."""
        seed = stream_seed(self.experiment.seed, "bootstrap") % 2**32
        return {"bootstrap": self.protocol.bootstrap, "seed": seed}

    def of(self, name: str) -> dict[str, list[Any]]:
        """arm -> what each seed showed, for the arms that showed it."""
        return {
            arm: [seed[name] for seed in seeds] for arm, seeds in self.saes.items() if all(name in s for s in seeds)
        }

    def across(self, name: str) -> dict[str, Any]:
        """arm -> what the comparison of its seeds showed."""
        return {arm: shown[name] for arm, shown in self.arms.items() if name in shown}

    def columns(self, name: str) -> dict[str, list[dict[str, np.ndarray]]]:
        """`of`, where an exhibit shows a number per document."""
        return {
            arm: [{key: np.asarray(values, dtype=np.float64) for key, values in seed.items()} for seed in seeds]
            for arm, seeds in self.of(name).items()
        }

    @property
    def seeds(self) -> int:
        return len(self.saes[MAIN])


@dataclass(frozen=True)
class Exhibit:
    """Evidence that each SAE gives alone."""

    examine: Callable[[Examination], Plain | None]
    """None where this SAE has nothing to show: then it is absent from the evidence."""
    summarise: Callable[[Evidence], Metric]
    nulls: tuple[str, ...] = ()
    """Dictionary and model nulls that show it too, beside those that the criterion of its name registers."""


@dataclass(frozen=True)
class Divided:
    """Evidence that each SAE gives alone, in parts that different actors may make: costly, and cut into a fixed number,
    so that the number of actors changes no number."""

    parts: int
    examine: Callable[[Examination, int], Plain | None]
    """(SAE, part counted from 0); the evidence is the list of what the parts showed, None among them."""
    summarise: Callable[[Evidence], Metric]
    nulls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Evidence that only the seeds of an arm together give."""

    examine: Callable[[Sequence[Examination]], Plain | None]
    summarise: Callable[[Evidence], Metric]
    nulls: tuple[str, ...] = ()
