"""What a push along a latent does to the task: h_i + eps on tokens where it is on (SCIENCE 7, causal attribution).

The model is a callable (edits of fixed sites) -> scores. Here the edits are made: doses of the latent and of every
null at the same sites and norms, ablations, first-order predictions. `attributed.py` turns what comes back into the
verdict's number.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from raysae.falsification.intervals import sequential_p
from raysae.falsification.metrics.dose_response import DOSES, effect, slope
from raysae.falsification.metrics.null_directions import NULLS, Draws

LATENTS = "latents"
ENOUGH = 5
"""Null draws that reach an effect, after which no more are drawn for it."""
KEPT = 16
"""Null effects per latent that are kept to be shown; the draws of matched latents."""
ROW_SPACE_ENERGY = 0.99
"""Of the Jacobian of the readouts: the subspace that holds this share is what the downstream readers read."""

_AT_ONCE = 32
"""Draws between two looks at who has had enough, after the first KEPT."""


class Scores(NamedTuple):
    """What a model says at n sites under e edits each."""

    value: Float[Tensor, "n e g"]
    """Score of each group of tokens, nats, up to a constant per site; 0 where the site has none of the group."""
    top: Int[Tensor, "n e w"]
    """The likeliest token at every position the edit can reach."""


Scorer = Callable[[Tensor, Tensor], Scores]
"""(sites [n] among those of the probe, delta [n, e, d] to be added there) -> Scores, differentiable in delta."""


class Probe(NamedTuple):
    """Sites of one split at which latents are on, sorted by latent."""

    score: Scorer
    owner: Int[np.ndarray, " n"]
    """Which of the m latents under test the site belongs to."""
    activation: Float[Tensor, " n"]
    """Of that latent there."""


class Direction(NamedTuple):
    """What was measured of one direction per latent, at the latent's sites."""

    target: Int[np.ndarray, " m"]
    """The group with the largest FIT slope, among those that may be a target."""
    fit_slope: Float[np.ndarray, " m"]
    """Of the target, nats per standard deviation of the latent."""
    p: dict[str, Float[np.ndarray, " m"]]
    """Of the TEST effect, against each null."""
    curve: Float[np.ndarray, "m e"]
    """TEST change of the target's score by dose."""
    mass: Float[np.ndarray, "m g"]
    """Mean over TEST sites of the absolute effect of one standard deviation, by group."""
    changed: Float[np.ndarray, " m"]
    """Share of TEST sites at which the largest dose changed any likeliest token: printed, never evidence."""


class Attribution(NamedTuple):
    """All m alive latents of one SAE, or a range of them."""

    latent: Int[np.ndarray, " m"]
    rate: Float[np.ndarray, " m"]
    """Share of FIT tokens on which it is on."""
    variance: Float[np.ndarray, " m"]
    """Of its activation over all FIT tokens."""
    sites: Int[np.ndarray, " m"]
    """TEST sites used."""
    off_support: Int[np.ndarray, " m"]
    """TEST tokens at which it is off: excluded."""
    directions: dict[str, Direction]
    """`latents`, and one direction of each null treated as if it were the latent's."""
    nulls: dict[str, Float[np.ndarray, "m k"]]
    """TEST effects of the first k draws of each null, of the group where it is largest."""
    ablation: dict[str, Float[np.ndarray, " m"]]
    """`zero`, `mean`, `resample` -> signed change of the target's score."""
    predicted: Float[np.ndarray, " m"]
    """Slope by the gradient at dose 0 (TEST)."""
    gradient: Float[np.ndarray, " m"]
    """Mean over sites of |derivative of the target's score by the activation|."""
    row_effect: Float[np.ndarray, " m"]
    """Effect of the part of the direction that lies in the row space of the readers; NaN where that is the whole."""


def row_space(score: Scorer, sites: int, d: int, targets: int) -> Float[Tensor, "d r"]:
    """Orthonormal basis of what the readouts read at first order: the directions that hold 99 % of the energy of the
    Jacobian of every possible target's score over the sites (SCIENCE 4.8)."""
    rows = torch.cat([gradients(score, np.full(sites, group), d) for group in range(targets)])
    _, scale, axes = torch.linalg.svd(rows.double(), full_matrices=False)
    energy = torch.cumsum(scale**2, 0)
    kept = int((energy < ROW_SPACE_ENERGY * energy[-1]).sum()) + 1 if len(energy) else 0
    return axes[:kept].T.to(rows)


def gradients(score: Scorer, target: Int[np.ndarray, " n"], d: int) -> Float[Tensor, "n d"]:
    """Of each site's target score by the activation there."""
    delta, sites = torch.zeros((len(target), 1, d), requires_grad=True), torch.arange(len(target))
    with torch.enable_grad():
        value = score(sites, delta).value[sites, 0, torch.from_numpy(target)].sum()
    return torch.autograd.grad(value, delta)[0][:, 0]


@torch.no_grad()
def measure(
    fit: Probe,
    test: Probe,
    w: Float[Tensor, "m d"],
    nulls: Mapping[str, Draws],
    scale: Float[Tensor, " m"],
    replacements: Mapping[str, Tensor],
    readers: Float[Tensor, "d r"] | None,
    targets: int,
    draws: Mapping[str, int],
) -> dict[str, Any]:
    """The measured fields of an `Attribution` of m latents.

    `scale` is the standard deviation of the active latent on FIT; `replacements` maps `zero`, `mean` and `resample` to
    the activation [n] put in the place of the latent's at each TEST site; the first `targets` groups may be a target;
    `draws` says how many directions there are of each null at most. The first direction drawn of a null is also treated
    as if it were the latent's, and is not among those it is tested against.
    """
    m, d = w.shape
    at_fit, at_test = _Split(fit, m, d), _Split(test, m, d)
    step, everyone = scale[:, None], np.arange(m)
    candidates = {LATENTS: w, **{name: nulls[name](everyone, 0, 1)[0] for name in NULLS if draws[name]}}
    directions = {name: _direction(at_fit, at_test, step * v, targets) for name, v in candidates.items()}
    sizes = np.stack([effect(one.curve) for one in directions.values()])
    against = {name: _against(at_test, nulls[name], step, sizes, targets, 1, draws[name]) for name in NULLS}
    target = directions[LATENTS].target
    gradient = gradients(test.score, target[test.owner], d)
    along = (gradient * w[torch.from_numpy(test.owner)]).sum(dim=1)
    row_effect = np.full(m, np.nan)
    if readers is not None and readers.shape[1] < d:
        row_effect = at_test.effects((step * (w @ readers @ readers.T))[None], everyone)[0][everyone, target]
    return {
        "directions": {
            name: one._replace(p={null: p[row] for null, (p, _) in against.items()})
            for row, (name, one) in enumerate(directions.items())
        },
        "nulls": {null: shown for null, (_, shown) in against.items()},
        "ablation": {
            name: at_test.mean(at_test.change(_ablation(test, w, value))[:, 0])[everyone, target]
            for name, value in replacements.items()
        },
        "predicted": scale.double().numpy() * at_test.mean(along),
        "gradient": at_test.mean(along.abs()),
        "row_effect": row_effect,
    }


def join(parts: Sequence[Attribution]) -> Attribution:
    """Ranges of latents put together, in the order given."""

    def fold(values: Sequence[Any]) -> Any:
        first = values[0]
        if isinstance(first, dict):
            return {key: fold([value[key] for value in values]) for key in first}
        if isinstance(first, Direction):
            return Direction(*(fold(column) for column in zip(*values, strict=True)))
        return np.concatenate(values)

    return Attribution(*(fold(column) for column in zip(*parts, strict=True)))


class _Split:
    """The sites of a split, with what the unedited model says at them."""

    def __init__(self, probe: Probe, m: int, d: int) -> None:
        self.probe, self.m = probe, m
        self.sites, self.owner = torch.arange(len(probe.owner)), torch.from_numpy(probe.owner)
        self.counts = torch.bincount(self.owner, minlength=m)
        self.clean = probe.score(self.sites, torch.zeros((len(self.owner), 1, d)))

    def mean(self, values: Float[Tensor, "n *rest"]) -> Float[np.ndarray, "m *rest"]:
        """Per latent over its sites, in float64 and in their order; 0 without any."""
        return _mean_by(values, self.owner, self.m)

    def change(self, delta: Float[Tensor, "n e d"]) -> Float[Tensor, "n e g"]:
        return self.probe.score(self.sites, delta).value - self.clean.value

    def curves(self, step: Float[Tensor, "m d"]) -> tuple[Float[Tensor, "n e g"], Float[np.ndarray, " m"]]:
        """Change of the scores by site and dose of `step`, and the share of sites where the largest dose changed any
        output."""
        found = self.probe.score(self.sites, step[self.owner][:, None] * torch.tensor(DOSES)[:, None])
        changed = (found.top[:, -1] != self.clean.top[:, 0]).any(dim=1)
        return found.value - self.clean.value, self.mean(changed.float())

    def effects(self, steps: Float[Tensor, "k a d"], which: Int[np.ndarray, " a"]) -> Float[np.ndarray, "k a g"]:
        """Half the difference between one step up and one down, at the sites of the latents `which`."""
        place = torch.full((self.m,), -1)
        place[torch.from_numpy(which)] = torch.arange(len(which))
        sites = self.sites[place[self.owner] >= 0]
        owner = place[self.owner[sites]]
        found = []
        for some in steps.split(KEPT):
            at_sites = some[:, owner].transpose(0, 1)
            value = self.probe.score(sites, torch.cat([at_sites, -at_sites], dim=1)).value
            found.append(_mean_by((value[:, : len(some)] - value[:, len(some) :]) / 2, owner, len(which)))
        return np.concatenate(found, axis=1).transpose(1, 0, 2)


def _mean_by(values: Float[Tensor, "n *rest"], owner: Int[Tensor, " n"], m: int) -> Float[np.ndarray, "m *rest"]:
    total = torch.zeros((m, *values.shape[1:]), dtype=torch.float64).index_add_(0, owner, values.double())
    count = torch.bincount(owner, minlength=m).clamp_min(1)
    return (total / count.view(-1, *[1] * (values.ndim - 1))).numpy()


def _against(
    test: _Split,
    draw: Draws,
    step: Float[Tensor, "m 1"],
    sizes: Float[np.ndarray, "c m"],
    targets: int,
    first: int,
    last: int,
) -> tuple[Float[np.ndarray, "c m"], Float[np.ndarray, "m k"]]:
    """p-values of the effects `sizes` of c directions per latent against the draws `first` to `last` of a null, and the
    effects of the first draws.

    A direction under test has its target chosen on FIT; a draw counts with the group where its effect is largest, which
    can only make p larger. Exchangeable under the null hypothesis: which direction is pushed at the latent's sites does
    not matter.
    """
    total = max(last - first, 0)
    exceeds = np.zeros((*sizes.shape, total), dtype=bool)
    seen = np.zeros(sizes.shape[1], dtype=np.int64)
    shown = np.zeros((sizes.shape[1], min(KEPT, total)))
    at, which = 0, np.flatnonzero(test.counts.numpy() > 0)
    while at < total and len(which):
        until = min(at + (KEPT if at == 0 else _AT_ONCE), total)
        drawn = draw(which, first + at, first + until)
        found = test.effects(step[which] * drawn, which)[:, :, :targets].max(axis=2)
        exceeds[:, which, at:until] = sizes[:, which, None] <= found.T
        if at == 0:
            shown[which] = found.T
        seen[which] = at = until
        which = which[(exceeds[:, which].sum(axis=2) < ENOUGH).any(axis=0)]
    p = np.ones_like(sizes)
    for one, latent in np.argwhere(np.broadcast_to(test.counts.numpy() > 0, sizes.shape)):
        p[one, latent] = sequential_p(exceeds[one, latent, : seen[latent]], ENOUGH, total)
    return p, shown


def _direction(fit: _Split, test: _Split, step: Float[Tensor, "m d"], targets: int) -> Direction:
    by_site, _ = fit.curves(step)
    slopes = slope(fit.mean(by_site).transpose(0, 2, 1))[:, :targets]
    target, every = slopes.argmax(axis=1), np.arange(len(slopes))
    by_site, changed = test.curves(step)
    up, down = DOSES.index(1.0), DOSES.index(-1.0)
    return Direction(
        target=target,
        fit_slope=slopes[every, target],
        p={},
        curve=test.mean(by_site)[every, :, target],
        mass=test.mean(((by_site[:, up] - by_site[:, down]) / 2).abs()),
        changed=changed,
    )


def _ablation(test: Probe, w: Float[Tensor, "m d"], value: Float[Tensor, " n"]) -> Float[Tensor, "n 1 d"]:
    return ((value - test.activation)[:, None] * w[torch.from_numpy(test.owner)])[:, None]
