"""The arithmetic of a worker's memory, on a hand-worked size."""

import pytest

from raysae.training.memory import estimate

PARAMETERS = 2 * 4 * 16 + 2 * 16 + 4


@pytest.mark.parametrize(
    ("shards", "workers", "saes", "gradients"), [(1, 1, 1, 1), (2, 1, 1, 2), (4, 1, 3, 3), (2, 2, 1, 2), (8, 2, 1, 4)]
)
def test_weights_moments_gradients_one_checkpoint_and_three_copies_of_the_pre_activations(
    shards, workers, saes, gradients
):
    found = estimate(4, 16, 80, shards, workers, saes)
    each, checkpoint, latents = PARAMETERS * (1 + 2 + gradients), PARAMETERS * 3, 3 * (80 // shards) * 16
    assert found.bytes == 4 * (saes * each + checkpoint + latents)
    assert f"{saes} x {PARAMETERS:,} parameters" in found.text
