"""N4: rows with the mean and covariance of the real activations, and nothing else of them."""

from collections.abc import Iterator

import numpy as np

from raysae.store import ActivationStore
from raysae.types import HookPoint
from raysae.types.experiment import stream_seed


def gaussian_batches(
    store: ActivationStore, hookpoint: HookPoint, batch_tokens: int, seed: int, *, start_step: int = 0
) -> Iterator[np.ndarray]:
    """Endless float32 [batch_tokens, d_in] samples; a batch depends on `seed` and its step alone."""
    mean = store.mean(hookpoint)
    scale, axes = np.linalg.eigh(store.covariance(hookpoint))
    root = axes * np.sqrt(np.clip(scale, 0, None))
    step = start_step
    while True:
        noise = np.random.default_rng(stream_seed(seed, f"gaussian/{step}")).standard_normal((batch_tokens, len(mean)))
        yield (noise @ root.T + mean).astype(np.float32)
        step += 1
