"""The null controls, as data: what is put in the place of what, and at which level. The stages build them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from raysae.errors import BadInput


class Null(BaseModel):
    """One null control (SCIENCE 0.5)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    code: str
    """Its number in SCIENCE 0.5, or the section that asks for it."""
    level: Literal["model", "dictionary", "labels", "latents", "direction", "surface"]
    """What it replaces."""
    description: str
    needs: Literal["capture", "training", "nothing"]
    """`capture`: activations and SAEs of its own; `training`: SAEs of its own on the real activations; `nothing`: it
    is made on the spot from what the real arm has."""


_ROWS = (
    Null(
        name="random_model",
        code="N5",
        level="model",
        description="The same architecture with fresh random weights; its activations are captured and its SAEs "
        "trained as the real ones are.",
        needs="capture",
    ),
    Null(
        name="random_dictionary",
        code="N1",
        level="dictionary",
        description="Independent random unit rows with a tied encoder, its threshold set on FIT so that L0 "
        "equals the real SAE's.",
        needs="nothing",
    ),
    Null(
        name="untrained_sae",
        code="N2",
        level="dictionary",
        description="The real SAE before its first step, its threshold set on FIT so that L0 equals the real SAE's.",
        needs="nothing",
    ),
    Null(
        name="frozen_decoder",
        code="N3",
        level="dictionary",
        description="Trained as the real SAE is, but the decoder's rows stay the random ones they began as.",
        needs="training",
    ),
    Null(
        name="soft_frozen_decoder",
        code="N3s",
        level="dictionary",
        description="Trained as the real SAE is, but every decoder row is kept at a cosine of at least 0.8 with the "
        "random one it began as.",
        needs="training",
    ),
    Null(
        name="frozen_encoder",
        code="N3e",
        level="dictionary",
        description="Trained as the real SAE is, but the encoder's weights stay the random ones they began as; its "
        "biases learn.",
        needs="training",
    ),
    Null(
        name="gaussian",
        code="N4",
        level="dictionary",
        description="Trained as the real SAE is, on samples of a Gaussian with the mean and covariance of TRAIN, then "
        "judged on the real activations.",
        needs="training",
    ),
    Null(
        name="permuted_labels",
        code="N6",
        level="labels",
        description="Whole documents exchange their labels, each sequence kept in order; matching and selection "
        "are done again.",
        needs="nothing",
    ),
    Null(
        name="circular_shift",
        code="N7",
        level="labels",
        description="The labels of each document are shifted by a random offset within it, the end joined to the "
        "start; matching and selection are done again.",
        needs="nothing",
    ),
    Null(
        name="pca",
        code="N8",
        level="dictionary",
        description="Principal axes of TRAIN in both signs as dictionary and encoder, its threshold set on FIT so that "
        "L0 equals the real SAE's.",
        needs="nothing",
    ),
    Null(
        name="neurons",
        code="N8n",
        level="dictionary",
        description="The coordinates of the hook point in both signs as dictionary and encoder, its threshold set on "
        "FIT so that L0 equals the real SAE's.",
        needs="nothing",
    ),
    Null(
        name="difference_of_means",
        code="N8d",
        level="direction",
        description="The difference between the class means of the labels in the place of the latents: a supervised "
        "baseline, not a floor.",
        needs="nothing",
    ),
    Null(
        name="matched_latents",
        code="N9",
        level="latents",
        description="Other alive latents that fire as often as the chosen ones and move as much, within 20 % or, "
        "where those are few, the nearest, take their place in the intervention.",
        needs="nothing",
    ),
    Null(
        name="wrong_site",
        code="4.7",
        level="latents",
        description="The same latents take the source's activations one token behind the site, where the variable does "
        "not stand.",
        needs="nothing",
    ),
    Null(
        name="random_direction",
        code="N10",
        level="direction",
        description="A random direction with, at every position, the same norm as the intervention.",
        needs="nothing",
    ),
    Null(
        name="shuffled_decoder",
        code="N10s",
        level="dictionary",
        description="The real latents with the decoder's rows permuted among them.",
        needs="nothing",
    ),
    Null(
        name="surface_model",
        code="N11",
        level="surface",
        description="A probe on the tokens around a position and the position itself, without any activation.",
        needs="nothing",
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


def check_stand_in(name: str | None, registered: tuple[str, ...]) -> None:
    """BadInput for a null that cannot take the real arm's place, or is not there to do so."""
    if name is None:
        return
    able = [null.name for null in _ROWS if null.level in ("model", "dictionary") or null.name == "permuted_labels"]
    if name not in able or name not in registered:
        allowed = ", ".join(null for null in able if null in registered) or "none of protocol.nulls"
        raise BadInput(f"protocol.stand_in={name}", f"allowed: {allowed}", "add it to protocol.nulls")
