"""Language models by name: how they look (`registry`), how they load (`load`), where they are read (`capture`)."""

from raysae.models.registry import MODELS, ModelRow

__all__ = ["MODELS", "ModelRow"]
