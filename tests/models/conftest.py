"""Small models of every architecture, built from their config classes, and folders that hold them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from transformers import PreTrainedModel

SMALL: dict[str, Callable[[], Any]] = {
    "GPT2LMHeadModel": lambda: transformers.GPT2Config(
        vocab_size=50, n_positions=32, n_embd=16, n_layer=3, n_head=2, bos_token_id=1, eos_token_id=1
    ),
    "GPTNeoXForCausalLM": lambda: transformers.GPTNeoXConfig(**_shape(), num_attention_heads=2),
    "LlamaForCausalLM": lambda: transformers.LlamaConfig(**_shape(), num_attention_heads=2, num_key_value_heads=1),
    "GemmaForCausalLM": lambda: transformers.GemmaConfig(
        **_shape(), num_attention_heads=2, num_key_value_heads=1, head_dim=8, pad_token_id=0
    ),
    "MistralForCausalLM": lambda: transformers.MistralConfig(**_shape(), num_attention_heads=2, num_key_value_heads=1),
    "Qwen2ForCausalLM": lambda: transformers.Qwen2Config(**_shape(), num_attention_heads=2, num_key_value_heads=1),
    "Qwen3ForCausalLM": lambda: transformers.Qwen3Config(
        **_shape(), num_attention_heads=2, num_key_value_heads=1, head_dim=8
    ),
    "PhiForCausalLM": lambda: transformers.PhiConfig(**_shape(), num_attention_heads=2),
}


def _shape() -> dict[str, int]:
    return {
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "max_position_embeddings": 32,
        "bos_token_id": 1,
        "eos_token_id": 1,
    }


def small(architecture: str) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, architecture)(SMALL[architecture]()).eval()


@pytest.fixture(params=list(SMALL))
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return small(request.param)


@pytest.fixture(params=list(SMALL))
def any_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A Hugging Face folder of each architecture."""
    small(request.param).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A GPT-2 folder with a tokenizer of 50 words."""
    small("GPT2LMHeadModel").save_pretrained(tmp_path / "model")
    words(50).save(str(tmp_path / "model" / "tokenizer.json"))
    return tmp_path / "model"


def words(count: int) -> tokenizers.Tokenizer:
    vocabulary = {"<unk>": 0, **{f"w{i}": i for i in range(1, count)}}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return core
