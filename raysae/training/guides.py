"""The two loss terms that know more of a token than its activations: its label, and the token that follows it.

Both are means over the shard, and come with their gradient with respect to the latents.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from raysae.training.kernels import Products
from raysae.types.learning import Form

GUIDE_COLUMNS = 2


class Guides(NamedTuple):
    """Of a shard's tokens, -1 where there is none."""

    label: Int64[Tensor, " n"]
    """Class of the token, for the probe."""
    following: Int64[Tensor, " n"]
    """Row of the next token of the same document and step."""


def guides_of(rows: Float[Tensor, "n columns"]) -> Guides:
    """From the last columns of rows as `ActivationStore.batches` gives them: label, and whether the next row follows.
    A pair that the end of the shard cuts is none."""
    follows = rows[:, -1] > 0
    follows[-1:] = False
    place = torch.arange(1, len(rows) + 1, device=rows.device)
    return Guides(rows[:, -GUIDE_COLUMNS].long(), torch.where(follows, place, -1))


class LinearProbe(nn.Module):
    """Softmax regression on latents, trained beside an SAE on the labels of TRAIN tokens."""

    def __init__(self, d_sae: int, classes: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(d_sae, classes))
        self.bias = nn.Parameter(torch.zeros(classes))


class Temporal(NamedTuple):
    """The temporal term of a shard."""

    loss: Float[Tensor, ""]
    latents: Float[Tensor, "..."]
    """Its gradient, in the shape of the latents."""


class Probed(NamedTuple):
    """What a linear probe on the latents makes of a shard."""

    loss: Float[Tensor, ""]
    """Mean cross-entropy over the labelled tokens, in nats."""
    labelled: Float[Tensor, ""]
    named: Float[Tensor, ""]
    """How many of them it gives their label."""
    latents: Float[Tensor, "..."]
    rows: Float[Tensor, "d_sae classes"]
    bias: Float[Tensor, " classes"]


def temporal(active: Products, latents: Float[Tensor, "..."], following: Int64[Tensor, " n"], form: Form) -> Temporal:
    """How much neighbouring tokens differ in their latents; never across documents or steps.

    repaired: mean over pairs of ||h_t - h_t+1||^2, over the mean ||h||^2 of the tokens in them, both differentiated, so
    that shrinking h gains nothing. literal: without the normaliser, least for h = 0 (SCIENCE S4): for comparison only.
    """
    first = following >= 0
    preceding = torch.full_like(following, -1)
    preceding[following[first]] = first.nonzero()[:, 0]
    twice = active.by_token((first.long() + (preceding >= 0).long()).to(latents.dtype)) * latents
    both = active.at(latents, following) + active.at(latents, preceding)
    energy, difference = (twice * latents).sum(), ((twice - both) * latents).sum()
    slope = 2 * (twice - both)
    if form == "literal":
        pairs = first.sum().clamp(min=1)
        return Temporal(difference / pairs, slope / pairs)
    safe = energy.clamp(min=torch.finfo(latents.dtype).tiny)
    return Temporal(2 * difference / safe, 2 * (slope - difference / safe * 2 * twice) / safe)


def label_probe(
    active: Products, latents: Float[Tensor, "..."], probe: LinearProbe, label: Int64[Tensor, " n"]
) -> Probed:
    """What the probe, and through it the label, asks of the latents."""
    known = label >= 0
    labelled = known.sum()
    logits = active.decode(latents, probe.rows).sum(dim=0) + probe.bias
    log_probability = logits.log_softmax(dim=1)
    truth = torch.zeros_like(logits).scatter_(1, label.clamp(min=0)[:, None], 1.0)
    weight = known / labelled.clamp(min=1)
    slope = (log_probability.exp() - truth) * weight[:, None]
    loss = -((log_probability * truth).sum(dim=1) * weight).sum()
    named = ((logits.argmax(dim=1) == label) & known).sum()
    stack = slope.expand(active.levels, *slope.shape)
    return Probed(
        loss,
        labelled.float(),
        named.float(),
        active.sample(stack, probe.rows),
        active.gather(latents, slope[None]).float(),
        slope.sum(dim=0),
    )
