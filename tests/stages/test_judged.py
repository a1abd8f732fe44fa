"""Which tokens probes read, and how the renderings of one trace are laid side by side."""

import numpy as np
import torch

from raysae.stages.exhibits.judged import Judged, aligned


def judged(unit: list[int], position: list[int], names: tuple[str, ...]) -> Judged:
    n = len(unit)
    nothing = np.zeros(n, np.int64)
    return Judged(nothing, torch.zeros(n, 1), nothing, nothing, np.array(unit), names, np.array(position))


def test_renderings_are_aligned_step_by_step_whatever_their_order() -> None:
    one = judged([0, 0, 1, 2], [9, 20, 7, 5], ("a", "b", "c"))
    other = judged([1, 0, 0, 0], [5, 20, 9, 31], ("a", "c"))  # of b nothing was read, of a a step more
    left, right = aligned(one, other)
    pairs = [(one.names[one.unit[i]], other.names[other.unit[j]]) for i, j in zip(left, right, strict=True)]
    assert pairs == [("a", "a"), ("a", "a"), ("c", "c")]
    assert one.position[left].tolist() == other.position[right].tolist() == [9, 20, 5]
