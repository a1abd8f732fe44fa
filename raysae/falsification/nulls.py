"""The null controls, as data: what is put in the place of what, and at which level. The stages build them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from raysae.errors import BadInput


class Null(BaseModel):
    """One null control (SCIENCE 0.5)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    code: str
    """Its number in SCIENCE 0.5."""
    level: Literal["model", "dictionary", "labels", "latents", "direction"]
    """What it replaces."""
    description: str
    arm: bool
    """Whether it needs activations and trained SAEs of its own."""


_ROWS = (
    Null(
        name="random_model",
        code="N5",
        level="model",
        description="The same architecture with fresh random weights; its activations are captured and its SAEs "
        "trained as the real ones are.",
        arm=True,
    ),
    Null(
        name="random_dictionary",
        code="N1",
        level="dictionary",
        description="Independent random unit rows with a tied encoder, its threshold set on FIT so that L0 "
        "equals the real SAE's.",
        arm=False,
    ),
    Null(
        name="permuted_labels",
        code="N6",
        level="labels",
        description="Whole documents exchange their labels, each sequence kept in order; matching and selection "
        "are done again.",
        arm=False,
    ),
    Null(
        name="matched_latents",
        code="N9",
        level="latents",
        description="Other alive latents with a firing rate within 20 % of the chosen ones take their place in "
        "the intervention.",
        arm=False,
    ),
    Null(
        name="random_direction",
        code="N10",
        level="direction",
        description="A random direction with, at every position, the same norm as the intervention.",
        arm=False,
    ),
)

NULLS: dict[str, Null] = {row.name: row for row in _ROWS}


def choose_nulls(names: tuple[str, ...]) -> tuple[Null, ...]:
    """The rows called `names`; BadInput for an unknown or repeated one."""
    for name in names:
        if name not in NULLS:
            raise BadInput(
                f"protocol.nulls holds {name!r}", f"allowed: {', '.join(NULLS)}", "correct the name or remove it"
            )
    if len(set(names)) != len(names):
        raise BadInput(f"protocol.nulls={list(names)} repeats a null", "allowed: each once", "remove the repetition")
    return tuple(NULLS[name] for name in names)
