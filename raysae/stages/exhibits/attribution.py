"""Causal attribution on a real model: where each latent is pushed, what takes its place, and what was measured."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from raysae.falsification.intervals import draws_needed
from raysae.falsification.metrics import attributed, attribution
from raysae.falsification.metrics.attribution import Attribution, Direction
from raysae.falsification.metrics.dose_response import DOSES
from raysae.falsification.metrics.null_directions import null_draws
from raysae.models.patch import reach
from raysae.stages.capture import MAIN, TWIN
from raysae.stages.court import Court, Examination
from raysae.stages.exhibits.base import Divided, Evidence, Plain
from raysae.stages.exhibits.pushing import Pushed
from raysae.stages.exhibits.readouts import Readouts
from raysae.stages.exhibits.sites import probe, sites, spread
from raysae.types import Metric, Split

PARTS = 4
"""Ranges that the alive latents of an SAE are cut into. Fixed: the number of actors changes no number."""
ROWS = 99
"""Decoder rows an effect is held against, and the fewest random directions."""
READER_SITES = 256
"""FIT sites at which the Jacobian of the readouts is taken."""
NO_LATENT = "An SAE has no alive latent, so there is nothing to push."


def _examine(exam: Examination, part: int) -> Plain | None:
    """What was measured of one range of the alive latents; nulls that replace the direction are made here as well."""
    if exam.arm not in (MAIN, TWIN):
        return None
    numbers = np.array_split(torch.nonzero(exam.alive)[:, 0].numpy(), PARTS)[part]
    if not len(numbers):
        return None
    readouts = Readouts(exam.experiment, exam.court.tokenizer)
    h = exam.fit_latents[:, numbers].double()
    seed = exam.seed("attribution")
    at_fit, at_test = (
        sites(exam, split, numbers, readouts, seed + number) for number, split in enumerate((Split.FIT, Split.TEST))
    )
    fit, test = (probe(exam, split, numbers, rows, owner, readouts)
                 for split, (rows, owner) in ((Split.FIT, at_fit), (Split.TEST, at_test)))  # fmt: skip
    resampled = torch.from_numpy(np.random.default_rng([seed, part, 2]).integers(0, len(h), len(test.owner)))
    owner = torch.from_numpy(test.owner)
    replacements = {
        "zero": torch.zeros(len(owner)),
        "mean": h.mean(dim=0).float()[owner],
        "resample": h[resampled, owner].float(),
    }
    W_dec, rates = exam.sae.W_dec.detach(), (exam.fit_latents > 0).double().mean(dim=0).numpy()
    measured = attribution.measure(
        fit,
        test,
        W_dec[numbers],
        null_draws(W_dec, rates, exam.alive.numpy(), numbers, seed),
        spread(h),
        replacements,
        _readers(exam.court, exam.source, readouts.targets),
        readouts.targets,
        _draws(exam),
    )
    found = Attribution(
        latent=numbers,
        rate=rates[numbers],
        variance=h.var(dim=0, correction=0).numpy(),
        sites=np.bincount(test.owner, minlength=len(numbers)),
        off_support=(exam.test_latents[:, numbers] <= 0).sum(dim=0).numpy(),
        **measured,
    )
    return {"groups": list(readouts.groups), **_plain(found)}


def _draws(exam: Examination) -> dict[str, int]:
    """Directions of each null, the first of which stands in the latent's place: of random ones so many that the
    smallest p survives a correction over all latents when a quarter of the registered ones are discoveries."""
    alive = int(exam.alive.sum())
    return {
        "matched_latents": 1 + attribution.KEPT if alive > 1 else 0,
        "random_direction": 1 + max(draws_needed(alive, max(exam.protocol.attributed_latents // 4, 1)), ROWS),
        "shuffled_decoder": min(1 + ROWS, alive - 1),
    }


@lru_cache(maxsize=4)
def _readers(court: Court, source: str, targets: int) -> torch.Tensor:
    """`row_space` at tokens of FIT drawn at random, the same for every SAE of the model."""
    readouts = Readouts(court.experiment, court.tokenizer)
    sample = court.sample(source, Split.FIT)
    window = reach(court.model(source), court.hookpoint.layer, court.protocol.attribution_window)
    readable = np.flatnonzero(readouts.readable(sample, window))
    rows = np.sort(np.random.default_rng(court.seed("readers")).permutation(readable)[:READER_SITES])
    score = Pushed(court, source, Split.FIT, rows, readouts, court.hookpoint)
    return attribution.row_space(score, len(rows), sample.x.shape[1], targets)


def _plain(found: Any) -> Any:
    """Arrays as lists, tuples with names as objects."""
    if hasattr(found, "_asdict"):
        return {name: _plain(value) for name, value in found._asdict().items()}
    if isinstance(found, dict):
        return {name: _plain(value) for name, value in found.items()}
    return found.tolist() if isinstance(found, np.ndarray) else found


def _revive(plain: Plain) -> Attribution:
    """The inverse of `_plain` for one range."""
    arrays = {name: np.asarray(value) for name, value in plain.items() if isinstance(value, list)}
    nested = {name: _arrays(plain[name]) for name in ("nulls", "ablation")}
    directions = {
        name: Direction(**{key: _arrays(value) for key, value in one.items()})
        for name, one in plain["directions"].items()
    }
    arrays.pop("groups")
    return Attribution(**arrays, **nested, directions=directions)


def _arrays(value: Any) -> Any:
    return {key: np.asarray(v) for key, v in value.items()} if isinstance(value, dict) else np.asarray(value)


def revive_attributions(evidence: Evidence) -> dict[str, list[Attribution]]:
    """Every SAE's attribution, by arm; an arm of which one SAE has no alive latent is absent."""
    shown = {arm: [[part for part in seed if part] for seed in seeds] for arm, seeds in evidence.of(NAME).items()}
    return {
        arm: [attribution.join([_revive(part) for part in seed]) for seed in seeds]
        for arm, seeds in shown.items()
        if all(seeds)
    }


def _summarise(evidence: Evidence) -> Metric:
    arms = revive_attributions(evidence)
    if MAIN not in arms:
        return attributed.nothing(evidence.seeds, NO_LATENT)
    return attributed.summarise(
        arms,
        latents=evidence.protocol.attributed_latents,
        seed=evidence.bootstrap["seed"],
    )


def rows(evidence: Evidence) -> Plain | None:
    """What `metrics/attribution.json` holds: the registered latents of every seed with their curves."""
    found = revive_attributions(evidence).get(MAIN)
    if found is None:
        return None
    (groups, *_) = [part["groups"] for part in evidence.of(NAME)[MAIN][0] if part]
    return {
        "doses": list(DOSES),
        "groups": groups,
        "latents": attributed.table(found, evidence.protocol.attributed_latents),
    }


NAME = "causal_attribution"
ATTRIBUTION = Divided(PARTS, _examine, _summarise)
