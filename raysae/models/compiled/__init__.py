"""Transformers whose weights were set by hand: the bracket machines of `worlds/brackets.py` as a GPT-2."""

from raysae.types import HookPoint
from raysae.types.experiment import ModelConfig

SITE = HookPoint(layer=1, site="resid_post")
"""Where every register stands: behind it, nothing but its copies is read."""
WIDTH = 216
COMPILED, COMPRESSED = "compiled", "compressed"
"""Strata O and S (SCIENCE 4.1)."""


def is_compiled(config: ModelConfig) -> bool:
    """Whether its weights are made, not read."""
    return config.path is None and config.name in (COMPILED, COMPRESSED)
