"""Each latent exchanged alone: how far every variable's readouts move (SCIENCE 4.6, secondary precision)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from raysae.falsification.criterion import PRECISION_LATENTS, PRECISION_PAIRS
from raysae.falsification.metrics import causal, precision
from raysae.models.patch import edited_logits, packs, reach, residual_step
from raysae.stages.court import Examination
from raysae.stages.exhibits.base import Plain
from raysae.stages.exhibits.pairs import PairTokens, registered_pairs
from raysae.stages.exhibits.unedited import read_pairs
from raysae.stages.ingest import WORLDS
from raysae.stages.measure import by_variable, encode
from raysae.worlds.interchange import WORD


def single_latents(exam: Examination) -> Plain:
    """Per latent examined, all alive ones or a draw of them: whether it has an effect, and the largest share of it that
    falls on one variable."""
    alive = torch.nonzero(exam.alive)[:, 0].numpy()
    rng = np.random.default_rng(exam.seed("single_latents"))
    latents = np.sort(rng.permutation(alive)[:PRECISION_LATENTS])
    registered = by_variable(exam.protocol.causal_units)
    rows: list[precision.Effects] = []
    bases: dict[str, int] = {}
    for world in (name for name in exam.experiment.corpus.names if name in WORLDS):
        for variable in (variable for variable in registered if variable in WORLDS[world].VARIABLES):
            pairs = registered_pairs(exam.court, world, variable, tuple(registered[variable]))
            effects = _exchanged(exam, torch.from_numpy(latents), WORLDS[world], pairs, list(registered))
            of_base = np.array([bases.setdefault(name, len(bases)) for name in pairs.bases])
            rows.append(effects._replace(base=of_base[effects.base]))
    joined = precision.Effects(*(np.concatenate(column) for column in zip(*rows, strict=True)))
    found = precision.select(joined, len(latents), exam.seed("single_latents/signs"))
    return {
        "latents": latents.tolist(),
        "significant": found.significant.tolist(),
        "share": found.share.tolist(),
    }


def _exchanged(
    exam: Examination, latents: torch.Tensor, world: Any, pairs: PairTokens, variables: Sequence[str]
) -> precision.Effects:
    """Of the first pairs of each value; `base` is the place of the pair."""
    at = np.concatenate(
        [np.flatnonzero(np.array(pairs.values) == value)[:PRECISION_PAIRS] for value in dict.fromkeys(pairs.values)]
    )
    unedited, rows = read_pairs(exam.model, str(exam.hookpoint), pairs), torch.from_numpy(at)
    h_base, h_source = (encode(exam.sae, x[rows])[:, latents] for x in (unedited.base, unedited.source))
    differs = h_source != h_base
    slots = int(differs.sum(dim=1).max())
    # The latents that differ come first; what fills a row up changes nothing and is left out again.
    which = differs.int().argsort(dim=1, descending=True, stable=True)[:, :slots]
    real = differs.gather(1, which)
    own = (h_source - h_base).gather(1, which)[:, :, None] * exam.sae.W_dec.detach()[latents[which]]
    noise = causal.random_direction(own.flatten(0, 1), exam.seed(f"single_latents/{pairs.variable}")).view_as(own)
    read = Movement(exam, world, pairs, variables)
    mass, null = read.moved(rows, torch.cat([own, noise], dim=1)).split([slots, slots], dim=1)
    pair, slot = (index.numpy() for index in torch.nonzero(real, as_tuple=True))
    return precision.Effects(
        latent=which[real].numpy(),
        base=at[pair],
        mass=(mass @ read.of_variable)[pair, slot].double().numpy(),
        total=mass.sum(dim=2)[pair, slot].double().numpy(),
        null=null.sum(dim=2)[pair, slot].double().numpy(),
    )


class Movement:
    """What the readouts of some pairs say, and how far an edit moves it."""

    def __init__(self, exam: Examination, world: Any, pairs: PairTokens, variables: Sequence[str]) -> None:
        self.exam, self.pairs = exam, pairs
        kinds = list(dict.fromkeys(said for about in pairs.about for readout in about for said in readout))
        self.asked = torch.zeros((*pairs.readouts.shape, len(kinds)))
        """[n, R, K]: 1 where a readout says this"""
        for row, about in enumerate(pairs.about):
            for column, readout in enumerate(about):
                self.asked[row, column, [kinds.index(said) for said in readout]] = 1
        self.of_variable = torch.tensor([[float(name in kind.follows) for name in variables] for kind in kinds])
        """[K, V]"""
        words = exam.court.tokenizer.convert_ids_to_tokens(range(len(exam.court.tokenizer)))
        self.classes = [_classes(world, kind.part, words) for kind in kinds]

    @torch.no_grad()
    def moved(self, rows: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """[r, e, K] total variation of what is said, summed over readouts, under `delta` [r, e, d_in] at pairs
        `rows`."""
        model, layer, pairs = self.exam.model, self.exam.hookpoint.layer, self.pairs
        hidden = read_pairs(model, str(self.exam.hookpoint), pairs).hidden
        ahead = pairs.readouts - pairs.positions[:, None]
        window = reach(model, layer, int(ahead.max()) + 1)
        seen = (pairs.readouts >= 0) & (ahead < window)
        found = torch.empty((*delta.shape[:2], len(self.classes)))
        for some, copies in packs(model, layer, pairs.positions[rows], delta.shape[1], window):
            at = rows[some]

            def said(step: torch.Tensor, at: torch.Tensor = at) -> list[torch.Tensor]:
                """Per kind [r, e, R, C]"""
                logits = edited_logits(model, layer, hidden[at], pairs.positions[at], step, window)
                place = ahead[at].clamp(0, window - 1)[:, None, :, None]
                chosen = logits.gather(2, place.expand(-1, step.shape[1], -1, logits.shape[-1])).float()
                return [chosen.softmax(dim=-1) @ classes for classes in self.classes]

            before = said(torch.zeros_like(residual_step(model, self.exam.hookpoint, delta[some, :1])))
            for first in range(0, delta.shape[1], copies):
                edits = slice(first, first + copies)
                after = said(residual_step(model, self.exam.hookpoint, delta[some, edits]))
                for k, (old, new) in enumerate(zip(before, after, strict=True)):
                    far = (new - old).abs().sum(dim=-1) / 2
                    found[some, edits, k] = (far * (self.asked[at, :, k] * seen[at])[:, None]).sum(dim=2)
        return found


def _classes(world: Any, part: str, words: Sequence[str]) -> torch.Tensor:
    """float32 [vocabulary, C]: one column for each thing that a word can say."""
    if part == WORD:
        return torch.eye(len(words))
    said = [world.carried(word).get(part) for word in words]
    names = list(dict.fromkeys(said))
    return torch.tensor([[float(value == name) for name in names] for value in said])
