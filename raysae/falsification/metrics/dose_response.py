"""A response to doses of both signs as numbers: slope, effect, linearity, sign symmetry, specificity (SCIENCE 7)."""

import numpy as np
from jaxtyping import Bool, Float, Int

from raysae.falsification.criterion import LINEARITY, SPECIFICITY

DOSES = (-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0)
"""In units of the latent's conditional standard deviation on FIT."""

SMALL = 0.5
"""Doses up to this size are the small ones."""

_DOSES = np.array(DOSES)


def slope(curve: Float[np.ndarray, "*m e"]) -> Float[np.ndarray, "*m"]:
    """Least squares over DOSES, score units per standard deviation; `curve` is the change of the score by dose."""
    return curve @ _DOSES / (_DOSES @ _DOSES)


def effect(curve: Float[np.ndarray, "*m e"]) -> Float[np.ndarray, "*m"]:
    """Half the difference between one standard deviation up and one down."""
    return (curve[..., DOSES.index(1.0)] - curve[..., DOSES.index(-1.0)]) / 2


def r_squared(curve: Float[np.ndarray, "*m e"], largest: float = max(DOSES)) -> Float[np.ndarray, "*m"]:
    """Of the straight line with intercept through the doses up to `largest`; 0 for a response that never changes."""
    used = np.abs(_DOSES) <= largest
    doses, y = _DOSES[used], curve[..., used]
    spread = ((y - y.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    explained = (y @ doses) ** 2 / (doses @ doses)
    return np.divide(explained, spread, out=np.zeros_like(spread), where=spread > 0)


def symmetry(curve: Float[np.ndarray, "*m e"]) -> Float[np.ndarray, "*m"]:
    """Share of the response's energy that changes sign with the dose: 1 for any odd function, 0 for damage, which is
    the same whichever way one pushes."""
    mirrored = curve[..., ::-1]
    odd, even = ((curve - mirrored) ** 2).sum(axis=-1), ((curve + mirrored) ** 2).sum(axis=-1)
    return np.divide(odd, odd + even, out=np.zeros_like(odd), where=odd + even > 0)


def linear(curve: Float[np.ndarray, "*m e"]) -> Bool[np.ndarray, "*m"]:
    """R^2 >= 0.8 over the small doses, or sign symmetry >= 0.8 over all of them.

    A log-probability is bounded by 0, so an effect as causal as can be flattens on one side once the dose is large:
    R^2 over the whole grid would refuse the strongest. What both readings refuse is a score that falls whichever way
    the activation is pushed.
    """
    return (r_squared(curve, SMALL) >= LINEARITY) | (symmetry(curve) >= LINEARITY)


def specificity(mass: Float[np.ndarray, "m g"], target: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """|effect on the target| / (|target| + |controls|), every other group a control; 0 where nothing changes.

    `mass` is the mean over sites of the absolute effect on each group: signed means would let effects on a control
    that differ from site to site cancel out.
    """
    hit, total = mass[np.arange(len(mass)), target], mass.sum(axis=1)
    return np.divide(hit, total, out=np.zeros(len(mass)), where=total > 0)


def specific(share: Float[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
    return share >= SPECIFICITY
