"""A null in the real arm's place: that arm is the null's, and every other arm is what it would have been."""

from pathlib import Path

from raysae.stages.court import Court
from raysae.stages.exhibits.fidelity import FIDELITY
from raysae.types.loading import load


def test_a_random_model_in_the_real_arms_place_leaves_the_null_dictionaries_with_the_real_model(
    tiny_config: Path, undisturbed: Path
) -> None:
    honest, swapped = (
        Court(load(tiny_config, [f"out={undisturbed.parent}", *extra]))
        for extra in ([], ["protocol.stand_in=random_model"])
    )
    null = FIDELITY.examine(swapped.examine("random_dictionary", 0))
    assert null == FIDELITY.examine(honest.examine("random_dictionary", 0))
    assert FIDELITY.examine(swapped.examine("main", 0)) == FIDELITY.examine(honest.examine("random_model", 0)) != null
