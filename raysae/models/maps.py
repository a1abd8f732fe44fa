"""What stands in a model's place where there is none: the states of a world, written as activations (SCIENCE 3.1)."""

from raysae.models.registry import ModelRow
from raysae.types.experiment import ModelConfig

ROTATED, SUPERPOSED = "rotated", "superposed"

WIDTHS = {ROTATED: 224, SUPERPOSED: 112}
"""Strata O and S: at least as many dimensions as factors, and fewer. Those where `model.width` is null suit the three
systems together, which have 210 factors."""


def is_map(config: ModelConfig) -> bool:
    """Whether there is no model to run."""
    return config.path is None and config.name in WIDTHS


def map_row(config: ModelConfig) -> ModelRow:
    """A map as if it were a model: one layer, so that its hook point is `layers.0.resid_post`, the vocabulary of the
    bundled tokenizer `states`, whose words are those of every system."""
    width = config.width or WIDTHS[config.name]
    return ModelRow(
        name=config.name,
        hub_id=None,
        revision=None,
        architecture="map of states",
        layers=1,
        d_model=width,
        d_mlp=width,
        vocab_size=71,
        ctx_len=2048,
        licence="MIT",
        gated=False,
        probe_layer=0,
        bundled=True,
    )
