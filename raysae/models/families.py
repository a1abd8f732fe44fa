"""Where to look inside a transformer, by architecture: its blocks, and in a block the attention, the MLP and its
down-projection."""

from typing import TYPE_CHECKING

from torch import nn

from raysae.types.experiment import ModuleNames

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LLAMA = ModuleNames(stack="model.layers", down="down_proj", attention="self_attn")

FAMILIES: dict[str, ModuleNames] = {
    "GPT2LMHeadModel": ModuleNames(stack="transformer.h", down="c_proj", attention="attn"),
    "GPTNeoXForCausalLM": ModuleNames(stack="gpt_neox.layers", down="dense_4h_to_h", attention="attention"),
    "LlamaForCausalLM": _LLAMA,
    "GemmaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "Qwen2ForCausalLM": _LLAMA,
    "Qwen3ForCausalLM": _LLAMA,
    "PhiForCausalLM": ModuleNames(stack="model.layers", down="fc2", attention="self_attn"),
}
"""Class name in transformers -> where to look."""

_NAMED = "_raysae_modules"


def name_modules(model: "PreTrainedModel", names: ModuleNames | None) -> "PreTrainedModel":
    """The same model, which from now on knows where to look if no row does."""
    setattr(model, _NAMED, names)
    return model


def family(model: "PreTrainedModel") -> ModuleNames:
    """The names that a loaded model was given, or its row; KeyError where there is neither."""
    return getattr(model, _NAMED, None) or FAMILIES[type(model).__name__]


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
    return blocks(model)[layer].get_submodule(family(model).mlp)


def down_projection(model: "PreTrainedModel", layer: int) -> nn.Module:
    """The last linear map of that MLP; what it reads is `mlp_hidden`."""
    return mlp(model, layer).get_submodule(family(model).down)
