"""From states to activations without a model: x = sum_j f_j a_j v_j + noise (SCIENCE 3.1).

f_j says whether factor j holds, a_j is uniform in [1, 1.2], v_j is the factor's direction. In stratum O the directions
are rows of a random rotation, so that no coordinate is a factor; in stratum S there are more of them than dimensions.
"""

import numpy as np
from jaxtyping import Bool, Float

LEAST, MOST = 1.0, 1.2
NOISE = 0.01


def rotated(count: int, d: int, rng: np.random.Generator) -> Float[np.ndarray, "count d"]:
    """Orthonormal rows. ValueError for more rows than dimensions."""
    if count > d:
        raise ValueError(f"{count} orthogonal directions in {d} dimensions; allowed: at most {d}")
    return np.linalg.qr(rng.standard_normal((d, d)))[0][:count]


def superposed(count: int, d: int, rng: np.random.Generator) -> Float[np.ndarray, "count d"]:
    """Independent unit rows."""
    rows = rng.standard_normal((count, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def activations(
    factors: Bool[np.ndarray, "n F"], directions: Float[np.ndarray, "F d"], rng: np.random.Generator
) -> Float[np.ndarray, "n d"]:
    """float32."""
    amplitude = factors * rng.uniform(LEAST, MOST, factors.shape)
    noise = NOISE * rng.standard_normal((len(factors), directions.shape[1]))
    return (amplitude @ directions + noise).astype(np.float32)
