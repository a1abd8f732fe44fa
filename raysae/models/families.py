"""Where to look inside a transformer, by architecture: its blocks, and in a block the attention, the MLP and its
down-projection."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Family:
    """The module names of one architecture. Every MLP hangs at `mlp` of its block."""

    stack: str
    """Path of the list of blocks."""
    down: str
    """Name of the down-projection inside the MLP; what it reads is `mlp_hidden`."""
    attention: str
    """Name of the attention inside a block; what it returns is `attn_out`."""


FAMILIES: dict[str, Family] = {
    "GPT2LMHeadModel": Family(stack="transformer.h", down="c_proj", attention="attn"),
    "GPTNeoXForCausalLM": Family(stack="gpt_neox.layers", down="dense_4h_to_h", attention="attention"),
    "LlamaForCausalLM": Family(stack="model.layers", down="down_proj", attention="self_attn"),
    "GemmaForCausalLM": Family(stack="model.layers", down="down_proj", attention="self_attn"),
    "PhiForCausalLM": Family(stack="model.layers", down="fc2", attention="self_attn"),
}
"""Class name in transformers -> where to look."""


def family(model: "PreTrainedModel") -> Family:
    """The family of a loaded model; KeyError for a class that no row names."""
    return FAMILIES[type(model).__name__]


def blocks(model: "PreTrainedModel") -> nn.ModuleList:
    """The transformer blocks in order."""
    found = model.get_submodule(family(model).stack)
    assert isinstance(found, nn.ModuleList)
    return found


def block(model: "PreTrainedModel", layer: int) -> nn.Module:
    """Block `layer`; what it reads is `resid_pre`, what it returns `resid_post`."""
    return blocks(model)[layer]


def attention(model: "PreTrainedModel", layer: int) -> nn.Module:
    """The attention of block `layer`; what it returns first is `attn_out`."""
    return blocks(model)[layer].get_submodule(family(model).attention)


def mlp(model: "PreTrainedModel", layer: int) -> nn.Module:
    """The MLP of block `layer`; what it returns is `mlp_out`."""
    return blocks(model)[layer].get_submodule("mlp")


def down_projection(model: "PreTrainedModel", layer: int) -> nn.Module:
    """The last linear map of that MLP; what it reads is `mlp_hidden`."""
    return mlp(model, layer).get_submodule(family(model).down)
