"""Small SAEs with a known geometry, for the tests of redundancy, stability, clustering and purity."""

import numpy as np

from raysae.falsification.metrics.codes import Code
from raysae.falsification.metrics.dictionaries import Dictionary, Origin, random_rows, unit


def random_code(rng: np.random.Generator, tokens: int, latents: int, rate: float = 0.05) -> Code:
    fires = rng.random((tokens, latents)) < rate
    return Code(fires * rng.uniform(0.5, 1.5, fires.shape))


def jittered(rng: np.random.Generator, rows: np.ndarray, noise: float) -> np.ndarray:
    """Each row turned by about atan(noise)."""
    return unit(rows + noise / np.sqrt(rows.shape[1]) * rng.standard_normal(rows.shape)).astype(np.float32)


def trained(
    seed: int,
    rows: np.ndarray,
    code: Code,
    noise: float = 0.1,
    share: float = 1.0,
    firing_noise: float = 0.1,
    start: bool = True,
) -> Dictionary:
    """What training number `seed` makes of the true `rows` and `code`: found up to noise for a `share` of them and
    random for the rest, numbered as chance has it."""
    rng = np.random.default_rng(1000 + seed)
    m, d = rows.shape
    found = rng.permutation(m) if share < 1 else np.arange(m)
    lost = found[: round((1 - share) * m)]
    mine, fires = jittered(rng, rows, noise), code.toarray()
    fires *= np.exp(firing_noise * rng.standard_normal(fires.shape))
    mine[lost] = random_rows(len(lost), d, rng)
    fires[:, lost] = random_code(rng, fires.shape[0], len(lost)).toarray()
    order = rng.permutation(m)
    return Dictionary(
        mine[order],
        np.arange(m),
        Code(fires[:, order]),
        Origin(f"init{seed}", f"order{seed}", f"shard{seed}"),
        random_rows(m, d, rng) if start else None,
    )


def null_dictionary(seed: int, m: int, d: int, tokens: int) -> Dictionary:
    """N1: nothing learnt."""
    rng = np.random.default_rng(9000 + seed)
    return Dictionary(
        random_rows(m, d, rng),
        np.arange(m),
        random_code(rng, tokens, m),
        Origin(f"null{seed}", f"order{seed}", f"shard{seed}"),
        random_rows(m, d, rng),
    )
