"""A part of an experiment: frozen, closed, and which of its fields say what the experiment is."""

from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

RUN_ONLY: dict[str, JsonValue] = {"run_only": True}
"""Marks a field that says how a run is carried out, not what it is."""


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def run_only(part: type[BaseModel]) -> set[str]:
    """Names of its fields that are marked RUN_ONLY."""
    extras = {name: field.json_schema_extra for name, field in part.model_fields.items()}
    return {name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("run_only")}


def identity_of(part: BaseModel) -> dict[str, Any]:
    """Its fields as plain JSON values; one marked RUN_ONLY is left out, at any depth."""
    kept: dict[str, Any] = {}
    left_out = run_only(type(part))
    for name in type(part).model_fields:
        if name in left_out:
            continue
        value = getattr(part, name)
        kept[name] = (
            identity_of(value) if isinstance(value, Part) else part.model_dump(mode="json", include={name})[name]
        )
    return kept
