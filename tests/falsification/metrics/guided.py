"""A world for guided SAEs: a weak direction holds the step's label, strong ones the token and the template.

A sparse code keeps what is strong and drops the label; guidance makes it keep the label as well.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from raysae.falsification.metrics import probing, surface, tripwires
from raysae.falsification.metrics.matching import permuted_rows
from raysae.falsification.metrics.tallies import Key, Tally, accuracy, rate
from raysae.types import Gate

D_IN, CLASSES, TYPES, TEMPLATES, K = 256, 3, 24, 16, 2
WEAK = 0.45
SHAPE = {"TRAIN": (500, 4), "FIT": (500, 4), "SEEN": (400, 4), "UNSEEN": (400, 3), "CUE": (260, 2), "PAIR": (500, 2)}
"""Documents, and tokens of each."""
SEEDS = 5


@dataclass(frozen=True)
class Split:
    x: np.ndarray
    x_random: np.ndarray
    """Of a model with random weights: tokens and templates, mixed otherwise, and no label."""
    y: np.ndarray
    cue: np.ndarray
    token: np.ndarray
    document: np.ndarray
    position: np.ndarray
    documents: int
    texts: frozenset[str]


@cache
def world() -> dict[str, Split]:
    rng = np.random.default_rng(1)
    ways = directions()
    found = {}
    for split, (documents, length) in SHAPE.items():
        document = np.repeat(np.arange(documents), length)
        y, token = rng.integers(0, CLASSES, len(document)), rng.integers(0, TYPES, len(document))
        template = rng.integers(0, 8, documents) + (8 if split == "UNSEEN" else 0)
        if split == "PAIR":  # One surface, two roles.
            token = np.repeat(token[::2], 2)
            y[1::2] = (y[::2] + rng.integers(1, CLASSES, documents)) % CLASSES
        strong = [
            3 * ways[model + "type"][token] + 2 * ways[model + "template"][template[document]]
            for model in ("", "random_")
        ]
        noise = rng.normal(0, 0.25, (len(y), D_IN))
        found[split] = Split(
            x=(strong[0] + WEAK * ways["label"][y] + noise).astype(np.float32),
            x_random=(strong[1] + noise).astype(np.float32),
            y=y,
            cue=(y + 1) % CLASSES,
            token=token,
            document=document,
            position=np.tile(np.arange(length), documents),
            documents=documents,
            texts=frozenset(f"{split} {d} {token[document == d]}" for d in range(documents)),
        )
    return found


Encoder = Callable[[np.ndarray], csr_array]
Read = Callable[[Split], probing.Features]


def sae(strong: np.ndarray, x: np.ndarray, y: np.ndarray | None = None, seed: int = 0) -> Encoder:
    """What training comes to, in closed form: latents for what is strong, the K largest of them on, and, if it is
    guided, one more per label along the direction that tells the label best on nine tenths of the tokens."""
    told = np.empty((0, D_IN + 1))
    if y is not None:
        rows = np.random.default_rng(seed).choice(len(y), int(0.9 * len(y)), replace=False)
        probe = LogisticRegression(C=0.03).fit(x[rows], y[rows])
        told = np.concatenate([probe.coef_, probe.intercept_[:, None]], axis=1)

    def encode(part: np.ndarray) -> csr_array:
        pre = np.maximum(part @ strong.T, 0)
        kept = np.where(pre >= np.sort(pre, axis=1)[:, [-K]], pre, 0)
        return csr_array(np.concatenate([kept, np.maximum(part @ told[:, :-1].T + told[:, -1], 0)], axis=1))

    return encode


def evidence(labels_of: tuple[str, ...] = ("TRAIN",)) -> tuple[list[dict[Key, Tally]], list[Gate]]:
    """What every probe says, per seed, and the tripwires; the guided SAE was given the labels of `labels_of`."""
    parts = world()
    x, y = (np.concatenate([getattr(parts[split], name) for split in labels_of]) for name in ("x", "y"))
    found, shares = [], []
    for seed in range(SEEDS):
        guided = sae(directions()["strong"], x, y, seed)
        tallies, probe = _probed(
            "guided", lambda part, encode=guided: encode(part.x), ("SEEN", "UNSEEN", "PAIR", "CUE")
        )
        found.append({**_unguided(), **_guided_otherwise(seed), **tallies})
        shares.append(tripwires.position_share(probe.weights, guided(parts["UNSEEN"].x), parts["UNSEEN"].position))
    texts = {split: {tripwires.text_hash(text) for text in part.texts} for split, part in parts.items()}
    gates = tripwires.check(found, texts=texts, position_share=max(shares), bootstrap=500, seed=0)
    return found, list(gates)


@cache
def _unguided() -> Mapping[Key, Tally]:
    """What no label has touched is the same for every seed."""
    fit, test = world()["FIT"], world()["UNSEEN"]
    baseline, random = sae(directions()["strong"], fit.x), sae(directions()["random_strong"], fit.x)
    found: dict[Key, Tally] = {}
    for name, read, splits in (
        ("raw_activations", lambda part: part.x, ("UNSEEN", "PAIR")),
        ("surface_model", lambda part: surface.features(part.token, part.document, TYPES), ("UNSEEN", "PAIR")),
        ("baseline", lambda part: baseline(part.x), ("SEEN", "UNSEEN", "PAIR", "CUE")),
        ("baseline_random_model", lambda part: random(part.x_random), ("UNSEEN",)),
    ):
        found |= _probed(name, read, splits)[0]
    found |= _probed("baseline_control", lambda part: baseline(part.x), ("SEEN",), _control)[0]
    exchanged = probing.fit(baseline(fit.x), _permuted(fit), fit.document, seed=0)
    for split in ("UNSEEN", "PAIR"):
        part = world()[split]
        said = probing.predict(exchanged, baseline(part.x))
        found |= tripwires.exchanged(("baseline", split), _permuted(part), said, part.document, part.documents, CLASSES)
    said = probing.predict_nonlinear(fit.x, fit.y, fit.document, test.x, seed=0)
    found["raw_activations_nonlinear", "UNSEEN"] = accuracy(test.y, said, test.document, test.documents, CLASSES)
    return found


@cache
def _guided_otherwise(seed: int) -> Mapping[Key, Tally]:
    """Guided by control labels, and on a model with random weights."""
    train = world()["TRAIN"]
    by_type = sae(directions()["strong"], train.x, _control(train), seed)
    random = sae(directions()["random_strong"], train.x_random, train.y, seed)
    return {
        **_probed("guided_control", lambda part: by_type(part.x), ("SEEN",), _control)[0],
        **_probed("guided_random_model", lambda part: random(part.x_random), ("UNSEEN",))[0],
    }


def _control(part: Split) -> np.ndarray:
    fit = world()["FIT"]
    return probing.control_labels(fit.token, fit.y, TYPES, seed=0)[part.token]


def _permuted(part: Split) -> np.ndarray:
    return part.y[permuted_rows(part.document, seed=0)]


def _probed(
    name: str, read: Read, splits: tuple[str, ...], labels: Callable[[Split], np.ndarray] = lambda part: part.y
) -> tuple[dict[Key, Tally], probing.Probe]:
    fit, found = world()["FIT"], {}
    probe = probing.fit(read(fit), labels(fit), fit.document, seed=0)
    for split in splits:
        part = world()[split]
        said = probing.predict(probe, read(part))
        if split == "CUE":
            found[name, split] = rate(said == part.cue, part.document, part.documents)
        else:
            found[name, split] = accuracy(labels(part), said, part.document, part.documents, CLASSES)
    return found, probe


@cache
def directions() -> dict[str, np.ndarray]:
    """Unit rows, orthogonal within a model."""
    rng, found = np.random.default_rng(0), {}
    for model in ("", "random_"):
        basis = np.linalg.qr(rng.normal(0, 1, (D_IN, TYPES + TEMPLATES + CLASSES)))[0].T
        parts = np.split(basis, (TYPES, TYPES + TEMPLATES))
        found |= {model + kind: part for kind, part in zip(("type", "template", "label"), parts, strict=True)}
        found[model + "strong"] = basis[: TYPES + TEMPLATES]
    return found
