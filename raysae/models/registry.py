"""The named language models: where their weights are, what they look like, under which terms.

A revision is the commit that was read; `null` would mean the newest one. Dimensions are those of the published
`config.json`, kept here so that a model can be built with fresh weights, or refused, without any download.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raysae.models.compiled import COMPILED, COMPRESSED, WIDTH
from raysae.worlds.brackets import TEXT_WORDS, VOCABULARY


@dataclass(frozen=True)
class ModelRow:
    """One model, described without its weights."""

    name: str
    hub_id: str | None
    """Null for a bundled model and for a folder."""
    revision: str | None
    """Pinned commit of the hub repository."""
    architecture: str
    """Class name in transformers; a key of `families.FAMILIES`."""
    layers: int
    d_model: int
    d_mlp: int
    """Width of the MLP after its non-linearity."""
    vocab_size: int
    ctx_len: int
    """Tokens the model can read at once."""
    licence: str
    gated: bool
    """Whether the hub asks for a login and for consent to the licence."""
    probe_layer: int
    """Where one looks first: the middle."""
    bundled: bool
    config: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The rest of what the architecture's config class needs to build it."""
    tokens: int | None = None
    """Size of its tokenizer, which may be less than `vocab_size`; null for a folder, whose own tokenizer says."""
    vocabulary_sha256: str | None = None
    """`vocabulary_sha256` of its tokenizer, where it is known without the hub."""


def _pretrained(name: str, *, layers: int, d_model: int, vocab_size: int, ctx_len: int) -> ModelRow:
    """What `raysae pretrain` makes; the folder's own config.json describes it as well."""
    return ModelRow(
        name=name,
        hub_id=None,
        revision=None,
        architecture="GPT2LMHeadModel",
        layers=layers,
        d_model=d_model,
        d_mlp=4 * d_model,
        vocab_size=vocab_size,
        ctx_len=ctx_len,
        licence="MIT",
        gated=False,
        probe_layer=layers // 2,
        bundled=True,
        config={"n_head": 4},
    )


MODELS: dict[str, ModelRow] = {
    row.name: row
    for row in (
        _pretrained("tiny-cot", layers=2, d_model=64, vocab_size=81, ctx_len=64),
        _pretrained("tiny-controlled", layers=4, d_model=128, vocab_size=224, ctx_len=144),
        _pretrained("tiny-gsm8k", layers=4, d_model=128, vocab_size=4096, ctx_len=512),
        *(
            ModelRow(
                name=name,
                hub_id=None,
                revision=None,
                architecture="GPT2LMHeadModel",
                layers=3,
                d_model=WIDTH,
                d_mlp=WIDTH,
                vocab_size=len(VOCABULARY),
                ctx_len=TEXT_WORDS,
                licence="MIT",
                gated=False,
                probe_layer=1,
                bundled=True,
                config={
                    "n_head": 2,
                    "activation_function": "relu",
                    "tie_word_embeddings": False,
                    "bos_token_id": None,
                    "eos_token_id": None,
                },
            )
            for name in (COMPILED, COMPRESSED)
        ),
        ModelRow(
            name="gpt2",
            hub_id="openai-community/gpt2",
            revision="607a30d783dfa663caf39e06633721c8d4cfcd7e",
            architecture="GPT2LMHeadModel",
            layers=12,
            d_model=768,
            d_mlp=3072,
            vocab_size=50257,
            ctx_len=1024,
            licence="MIT",
            gated=False,
            probe_layer=6,
            bundled=False,
            config={"n_head": 12},
            tokens=50257,
            vocabulary_sha256="98de00669996e48e8db9590e7c13d37461bb11178e80fa2abcafb3e49f542baf",
        ),
        ModelRow(
            name="gpt2-medium",
            hub_id="openai-community/gpt2-medium",
            revision="6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
            architecture="GPT2LMHeadModel",
            layers=24,
            d_model=1024,
            d_mlp=4096,
            vocab_size=50257,
            ctx_len=1024,
            licence="MIT",
            gated=False,
            probe_layer=12,
            bundled=False,
            config={"n_head": 16},
            tokens=50257,
            vocabulary_sha256="98de00669996e48e8db9590e7c13d37461bb11178e80fa2abcafb3e49f542baf",
        ),
        ModelRow(
            name="pythia-1.4b",
            hub_id="EleutherAI/pythia-1.4b",
            revision="fedc38a16eea3bd36a96b906d78d11d2ce18ed79",
            architecture="GPTNeoXForCausalLM",
            layers=24,
            d_model=2048,
            d_mlp=8192,
            vocab_size=50304,
            ctx_len=2048,
            licence="Apache-2.0",
            gated=False,
            probe_layer=12,
            bundled=False,
            config={
                "num_attention_heads": 16,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
            },
            tokens=50277,
        ),
        ModelRow(
            name="gemma-2b",
            hub_id="google/gemma-2b",
            revision="9cf48e52b224239de00d483ec8eb84fb8d0f3a3a",
            architecture="GemmaForCausalLM",
            layers=18,
            d_model=2048,
            d_mlp=16384,
            vocab_size=256000,
            ctx_len=8192,
            licence="Gemma Terms of Use",
            gated=True,
            probe_layer=9,
            bundled=False,
            config={"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256},
            tokens=256000,
        ),
        ModelRow(
            name="llama-3-8b",
            hub_id="meta-llama/Meta-Llama-3-8B",
            revision="8cde5ca8380496c9a6cc7ef3a8b46a0372a1d920",
            architecture="LlamaForCausalLM",
            layers=32,
            d_model=4096,
            d_mlp=14336,
            vocab_size=128256,
            ctx_len=8192,
            licence="Meta Llama 3 Community License",
            gated=True,
            probe_layer=16,
            bundled=False,
            config={
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "rms_norm_eps": 1e-5,
                "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
            },
            tokens=128256,
        ),
        ModelRow(
            name="phi-2",
            hub_id="microsoft/phi-2",
            revision="ef382358ec9e382308935a992d908de099b64c23",
            architecture="PhiForCausalLM",
            layers=32,
            d_model=2560,
            d_mlp=10240,
            vocab_size=51200,
            ctx_len=2048,
            licence="MIT",
            gated=False,
            probe_layer=16,
            bundled=False,
            config={
                "num_attention_heads": 32,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.4},
            },
            tokens=50295,
        ),
    )
}
"""Every model by name."""
