"""Where in a language model an activation is read: a layer and a site."""

import re
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

Site = Literal["resid_post", "mlp_hidden", "mlp_out", "resid_pre", "attn_out"]
SITES: tuple[str, ...] = get_args(Site)
LINEAR_SITES = ("resid_post", "mlp_hidden", "mlp_out")
"""What is added there reaches the block's output through linear maps alone, in every architecture."""

_PATTERN = re.compile(r"layers\.(\d+)\.(\w+)")


class HookPoint(BaseModel):
    """A layer and a site, printed and parsed as `layers.6.resid_post`.

    `resid_post` is the block's own output (for the last layer this is *not* `hidden_states[-1]`, which has passed the
    final norm), `mlp_hidden` the MLP between its non-linearity and its down-projection, `mlp_out` what the MLP adds,
    `resid_pre` what the block reads and `attn_out` what its attention adds.
    """

    model_config = ConfigDict(frozen=True)

    layer: int
    """Index of the transformer block, from 0."""
    site: Site
    """Which tensor of that block."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return cls._parts(value) if isinstance(value, str) else value

    @staticmethod
    def _parts(text: str) -> dict[str, Any]:
        match = _PATTERN.fullmatch(text)
        if match is None or match[2] not in SITES:
            raise ValueError(
                f"hook point {text!r} is not known; allowed: layers.<N>.<site> with site one of {', '.join(SITES)}; "
                "type for example capture.hookpoints=[layers.1.resid_post]"
            )
        return {"layer": int(match[1]), "site": match[2]}

    @classmethod
    def parse(cls, text: str) -> "HookPoint":
        """`layers.6.resid_post` -> HookPoint; ValueError names the allowed sites."""
        return cls(**cls._parts(text))

    @model_serializer
    def _as_text(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"layers.{self.layer}.{self.site}"
