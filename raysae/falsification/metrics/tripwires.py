"""Numbers that are too good to be true, or that something else than the SAE explains (SCIENCE 5.5).

Each is a gate: one that fails makes the verdict INCONCLUSIVE(GATE_FAILED) until it is explained. They bind on UNSEEN
and PAIR; "100 % accuracy" is a defect.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from raysae.falsification.metrics.tallies import Key, Tally, accuracy, contrast, score, uninformed
from raysae.types.metric import Gate, Reason

TOO_GOOD = 0.99
SURFACE_MARGIN = 0.05
RAW_MARGIN = 0.02
POSITION_CORRELATION = 0.9
POSITION_SHARE = 0.5
"""Of a probe's weight: more than half on position is "concentrated", a choice of this project."""

BINDING = ("UNSEEN", "PAIR")
PERMUTED = "_permuted"
"""Suffix of a representation whose probe was trained and tested on labels exchanged between documents (N6)."""
CHANCE = f"{PERMUTED}_chance"
"""Suffix of what the same predictions score where they know nothing of those labels."""

NAMES = (
    "accuracy too good",
    "surface model",
    "above raw activations",
    "permuted labels",
    "identical texts",
    "position-coded weights",
)

_REPRESENTATIONS = ("raw_activations", "baseline", "guided", "surface_model")


def check(
    seeds: Sequence[Mapping[Key, Tally]],
    *,
    texts: Mapping[str, Collection[str]],
    position_share: float | None,
    bootstrap: int,
    seed: int,
) -> tuple[Gate, ...]:
    """All six, in the order of `NAMES`. `seeds` holds (representation, split) -> tally; `texts` the `text_hash` of each
    document per split; `position_share` is that of the guided probe, the worst seed's."""
    return (
        too_good(seeds),
        surface(seeds),
        above_raw(seeds),
        permuted(seeds, bootstrap=bootstrap, seed=seed),
        identical_texts(texts),
        position_coded(position_share),
    )


def too_good(seeds: Sequence[Mapping[Key, Tally]]) -> Gate:
    """No probe, in no seed, is right on 99 % of a binding split."""
    found = {key: max(_of(seeds, key)) for key in _keys(_REPRESENTATIONS) if _of(seeds, key)}
    if not found:
        return _unmeasured(NAMES[0], "the accuracy of probes on UNSEEN")
    worst = max(found, key=lambda key: found[key])
    detail = f"{worst[0]} has accuracy {found[worst]:.3f} on {worst[1]}, limit {TOO_GOOD}"
    return Gate(name=NAMES[0], passed=found[worst] < TOO_GOOD, detail=detail)


def surface(seeds: Sequence[Mapping[Key, Tally]]) -> Gate:
    """The guided latents know more than tokens, position and length tell."""
    gaps = {}
    for split in BINDING:
        alone, guided = (_of(seeds, (what, split)) for what in ("surface_model", "guided"))
        if not alone or not guided:
            return _unmeasured(NAMES[1], f"the surface model or the guided SAE on {split}")
        gaps[split] = float(np.mean(guided) - np.mean(alone))
    worst = min(gaps, key=lambda split: gaps[split])
    detail = f"guided latents are {gaps[worst]:+.3f} above the surface model on {worst}, needed {SURFACE_MARGIN}"
    return Gate(name=NAMES[1], passed=gaps[worst] > SURFACE_MARGIN, detail=detail)


def above_raw(seeds: Sequence[Mapping[Key, Tally]]) -> Gate:
    """Latents are a function of the activations: they cannot know what no probe finds there, unless they were told.

    The probes on raw activations must have seen as many labels as the guidance did (TRAIN and FIT), or an honest guided
    SAE knows more than they do.
    """
    guided, linear, network = (
        _of(seeds, (what, "UNSEEN")) for what in ("guided", "raw_activations", "raw_activations_nonlinear")
    )
    if not guided or not linear or not network:
        return _unmeasured(NAMES[2], "guided latents or one of the probes on raw activations on UNSEEN")
    best = max(float(np.mean(linear)), float(np.mean(network)))
    gain = float(np.mean(guided)) - best
    detail = f"guided latents are {gain:+.3f} above the best probe on raw activations ({best:.3f}), limit {RAW_MARGIN}"
    return Gate(name=NAMES[2], passed=gain <= RAW_MARGIN, detail=detail)


def permuted(seeds: Sequence[Mapping[Key, Tally]], *, bootstrap: int, seed: int, alpha: float = 0.05) -> Gate:
    """Labels of other documents cannot be read; `alpha` is shared by all that are tried (Bonferroni).

    Chance is what the same predictions score where they know nothing (`tallies.uninformed`), in pairs with their
    accuracy: 1 / classes only where all classes occur. On PAIR two of five do, and a probe that says any of the five
    alike is right on a fifth: against 1/2 it could read much and pass.
    """
    tried = [
        (what, split) for what, split in _keys(_REPRESENTATIONS)
        if _of(seeds, (what + PERMUTED, split)) and _of(seeds, (what + CHANCE, split))
    ]  # fmt: skip
    if not tried:
        return _unmeasured(NAMES[3], "a probe for permuted labels")
    above = {}
    for what, split in tried:
        signs = {(what + PERMUTED, split): 1.0, (what + CHANCE, split): -1.0}
        estimate = contrast(seeds, signs, bootstrap=bootstrap, seed=seed, alpha=alpha / len(tried))
        above[what + PERMUTED, split] = estimate.interval[0] if estimate.interval else float("nan")
    worst = max(above, key=lambda key: above[key] if np.isfinite(above[key]) else np.inf)
    detail = f"{worst[0]} on {worst[1]} has a lower bound {above[worst]:+.3f} from chance, limit 0"
    return Gate(name=NAMES[3], passed=bool(above[worst] <= 0), detail=detail)


def exchanged(
    key: Key,
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    document: Int[np.ndarray, " n"],
    documents: int,
    classes: int,
) -> dict[Key, Tally]:
    """What `permuted` reads of one representation on one split: `labels` are those of other documents."""
    how = labels, predicted, document, documents, classes
    what, split = key
    return {(what + PERMUTED, split): accuracy(*how), (what + CHANCE, split): uninformed(*how)}


def identical_texts(texts: Mapping[str, Collection[str]]) -> Gate:
    """No text stands in two splits."""
    if len(texts) < 2:
        return _unmeasured(NAMES[4], "the texts of two splits")
    shared = {(a, b): len(set(texts[a]) & set(texts[b])) for a, b in combinations(texts, 2)}
    (a, b), count = max(shared.items(), key=lambda item: item[1])
    return Gate(name=NAMES[4], passed=count == 0, detail=f"{count} texts of {a} stand in {b} as well, limit 0")


def position_coded(share: float | None) -> Gate:
    """The probe reads more than where in the text it is."""
    if share is None:
        return _unmeasured(NAMES[5], "the weights of the guided probe")
    detail = f"{share:.3f} of the guided probe's weight lies on position-coded latents, limit {POSITION_SHARE}"
    return Gate(name=NAMES[5], passed=bool(share <= POSITION_SHARE), detail=detail)


def text_hash(text: str) -> str:
    """Of the text without differences of case and white space."""
    return hashlib.sha256(" ".join(text.casefold().split()).encode()).hexdigest()


def position_share(weights: Float[np.ndarray, "c m"], latents: csr_array, position: Int[np.ndarray, " n"]) -> float:
    """Share of a probe's weight, in standard deviations of each latent, on latents that position explains.

    The correlation is the correlation ratio, adjusted for the number of positions: never below |Pearson|'s, so that a
    latent for one place in the text counts as well as one that grows along it.
    """
    mean, square = (np.asarray(part.mean(axis=0)).ravel() for part in (latents, latents.multiply(latents)))
    variance = np.maximum(square - mean**2, 0)
    weight = np.abs(weights).sum(axis=0) * np.sqrt(variance)
    total = float(weight.sum())
    return float(weight[position_codes(latents, position)].sum()) / total if total > 0 else 0.0


def position_codes(latents: csr_array, position: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " m"]:
    """Which latents position explains to a correlation above 0.9."""
    n = len(position)
    places, group = np.unique(position, return_inverse=True)
    counts = np.bincount(group).astype(np.float64)
    member = csr_array((np.ones(n), (group, np.arange(n))), shape=(len(places), n))
    sums = csr_array(member @ latents).toarray()
    mean, square = sums.sum(axis=0) / n, np.asarray(latents.multiply(latents).sum(axis=0)).ravel()
    total = square - n * mean**2
    within = square - (sums**2 / counts[:, None]).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        explained = 1 - within / total * (n - 1) / max(1, n - len(places))
    return (total > 0) & (explained > POSITION_CORRELATION**2)


def _keys(representations: Sequence[str]) -> list[Key]:
    return [(what, split) for what in representations for split in BINDING]


def _of(seeds: Sequence[Mapping[Key, Tally]], key: Key) -> list[float]:
    """Its score in every seed; empty unless all have one: no token of a set may be judged."""
    found = [score(one[key]) for one in seeds if key in one]
    return found if len(found) == len(seeds) and np.isfinite(found).all() else []


def _unmeasured(name: str, what: str) -> Gate:
    return Gate(name=name, passed=False, detail=f"{what} was not measured", failure=Reason.NOT_RUN)
