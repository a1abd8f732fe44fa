"""From the `model` section of an experiment to a row that describes it, a model in eval mode, and its tokenizer.

Weights are read from safetensors only and no code comes from a hub or a folder. Every arm uses the same attention
implementation, so that a difference between two arms is never one of kernels. Whatever is wrong with the input is a
BadInput; `describe` has found before what can be found without reading weights.
"""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysae.errors import BadInput
from raysae.models.compiled import is_compiled
from raysae.models.describe import (
    ARCHITECTURES,
    USE_FOLDER,
    describe,
    folder_config,
    model_folder,
    model_inputs,
    quiet,
    tokenizer_folder,
)
from raysae.models.families import name_modules
from raysae.models.registry import MODELS, ModelRow
from raysae.types.experiment import ModelConfig, stream_seed
from raysae.types.text import TokenizerConfig

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast


def load_model(config: ModelConfig, device: str = "cpu") -> "PreTrainedModel":
    """The model in eval mode, in `config.dtype`; fresh weights from `config.seed` where `config.randomize`.

    BadInput when weights are missing, incomplete, damaged, gated or out of reach.
    """
    row = describe(config)
    if config.randomize:
        return _fresh(config, row, config.seed, device)
    if is_compiled(config):
        return _set_by_hand(config, row, device)
    import torch
    import transformers
    from safetensors import SafetensorError

    folder = model_folder(config)
    where = str(row.hub_id if folder is None else folder)
    with quiet():
        try:
            if folder is None:
                _reach(where, row.revision, "config.json")
            model, info = getattr(transformers, row.architecture).from_pretrained(
                where,
                revision=row.revision or "main",
                local_files_only=folder is not None,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation=config.attention,
                device_map=config.device_map if device != "cpu" else None,
                dtype=getattr(torch, config.dtype),
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
            raise _unloadable(f"model {where}", row, error, f"{USE_FOLDER}, or model.randomize=true") from error
    absent = sorted(info["missing_keys"])
    if absent:
        raise BadInput(
            f"model {where} lacks {len(absent)} weights ({absent[0]}, ...)",
            f"allowed: a whole {row.architecture}",
            USE_FOLDER,
        )
    spread = config.device_map is not None and device != "cpu"
    return name_modules(model.eval() if spread else model.eval().to(device), config.modules)


def random_twin(config: ModelConfig, seed: int, device: str = "cpu") -> "PreTrainedModel":
    """The same architecture with fresh weights from `seed` (null N5), in eval mode."""
    return _fresh(config, describe(config), seed, device)


def load_tokenizer(model: ModelConfig, tokenizer: TokenizerConfig) -> "PreTrainedTokenizerFast":
    """The fast tokenizer that `tokenizer` names, or else the model's own. BadInput when there is none or it is slow."""
    where, revision = _tokenizer_source(model, tokenizer)
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    cure = "type tokenizer.path=<folder with tokenizer.json>"
    with quiet():
        try:
            if isinstance(where, Path) and not (where / "tokenizer_config.json").is_file():
                loaded: Any = PreTrainedTokenizerFast(tokenizer_file=str(where / "tokenizer.json"))
            else:
                if not isinstance(where, Path):
                    _reach(where, revision, "tokenizer_config.json")
                loaded = AutoTokenizer.from_pretrained(
                    str(where),
                    revision=revision or "main",
                    local_files_only=isinstance(where, Path),
                    use_fast=True,
                    trust_remote_code=False,
                )
        except Exception as error:  # tokenizers raises bare Exception for a file it cannot parse
            row = MODELS.get(model.name) if model.path is None else None
            raise _unloadable(f"tokenizer {where}", row, error, cure) from error
    if not loaded.is_fast:
        raise BadInput(
            f"tokenizer {where} is a slow one", "allowed: a fast tokenizer, which knows character offsets", cure
        )
    return loaded


def tokenizer_definition(tokenizer: "PreTrainedTokenizerFast") -> str:
    """The content of its tokenizer.json, without the padding and truncation of the last call."""
    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    definition |= {"padding": None, "truncation": None}
    # ensure_ascii, because a vocabulary may hold what is not text by itself
    return json.dumps(definition, sort_keys=True, ensure_ascii=True)


def tokenizer_sha256(tokenizer: "PreTrainedTokenizerFast") -> str:
    """SHA-256 of what decides its ids: its definition and its EOS."""
    text = f"{tokenizer_definition(tokenizer)}\n{tokenizer.eos_token_id}"
    return hashlib.sha256(text.encode()).hexdigest()


def vocabulary_sha256(tokenizer: "PreTrainedTokenizerFast") -> str:
    """SHA-256 of its tokens, their ids and its merges: the same whether it came as one file or several."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges") or ()]
    text = json.dumps([sorted(tokenizer.get_vocab().items()), merges], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def fitting_tokenizer(model: ModelConfig, config: TokenizerConfig) -> "PreTrainedTokenizerFast":
    """`load_tokenizer`, checked against the model: BadInput unless size and vocabulary are those it was trained with.

    A model with fresh weights was trained with none, so there any ids within its embedding will do.
    """
    tokenizer, row = load_tokenizer(model, config), describe(model)
    check_tokenizer(tokenizer, row)
    if model.randomize or (config.path is None and config.name is None):
        return tokenizer
    cure = "remove tokenizer.name and tokenizer.path, or correct model.name"
    if row.tokens is not None and len(tokenizer) != row.tokens:
        raise BadInput(f"the tokenizer has {len(tokenizer)} tokens", f"that of {row.name} has {row.tokens}", cure)
    folder = tokenizer_folder(model)
    own = row.vocabulary_sha256
    if folder is not None and _holds_tokenizer(folder):
        own = vocabulary_sha256(load_tokenizer(model, TokenizerConfig()))
    if own is not None and vocabulary_sha256(tokenizer) != own:
        raise BadInput(
            f"the tokenizer's vocabulary has sha256 {vocabulary_sha256(tokenizer)[:16]}...",
            f"that of {row.name} has {own[:16]}...",
            cure,
        )
    return tokenizer


def check_tokenizer(tokenizer: "PreTrainedTokenizerFast", row: ModelRow) -> None:
    """BadInput when the tokenizer can give an id that the model has no embedding for."""
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= row.vocab_size:
        raise BadInput(
            f"the tokenizer gives ids up to {largest}, but {row.name} knows {row.vocab_size} tokens",
            "allowed: the tokenizer that the model was trained with",
            "remove tokenizer.name and tokenizer.path, or correct model.name",
        )


def _fresh(config: ModelConfig, row: ModelRow, seed: int, device: str) -> "PreTrainedModel":
    """New weights, the same for the same seed, in float32 and then cast; the global generator stays as it was."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = model_folder(config)
    details = registry_config(row) if folder is None else folder_config(folder, config.modules)
    with quiet(), torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would reseed the accelerators as well.
        torch.default_generator.manual_seed(stream_seed(seed, "model.weights"))
        model = AutoModelForCausalLM.from_config(details, attn_implementation=config.attention, dtype=torch.float32)
    return name_modules(model.eval().to(device=device, dtype=getattr(torch, config.dtype)), config.modules)


def _set_by_hand(config: ModelConfig, row: ModelRow, device: str) -> "PreTrainedModel":
    import torch

    from raysae.models.compiled.weights import weights

    model: Any = _fresh(config.model_copy(update={"dtype": "float32"}), row, config.seed, "cpu")
    model.load_state_dict(weights(config.name, config.seed, row.d_mlp))
    return model.to(device=device, dtype=getattr(torch, config.dtype))


def registry_config(row: ModelRow) -> "PreTrainedConfig":
    """The config of a named model from its row alone."""
    from transformers import CONFIG_MAPPING

    kind = next(kind for kind, architecture in ARCHITECTURES.items() if architecture == row.architecture)
    sizes: dict[str, Any] = {"vocab_size": row.vocab_size, "max_position_embeddings": row.ctx_len}
    sizes |= {"num_hidden_layers": row.layers, "hidden_size": row.d_model}
    sizes["n_inner" if kind == "gpt2" else "intermediate_size"] = row.d_mlp
    return CONFIG_MAPPING[kind](**sizes, **row.config)


def _tokenizer_source(model: ModelConfig, tokenizer: TokenizerConfig) -> tuple[Path | str, str | None]:
    """A folder, or a hub id and its revision."""
    if tokenizer.path is not None:
        return _tokenizer_folder(Path(tokenizer.path).expanduser(), "tokenizer.path"), None
    if tokenizer.name is not None and tokenizer.name not in MODELS:
        return tokenizer.name, None
    config = model if tokenizer.name is None else ModelConfig(name=tokenizer.name)
    folder = tokenizer_folder(config)
    if folder is not None:
        return _tokenizer_folder(folder, "model.path" if config.path else "model.name"), None
    row = MODELS[config.name]
    return str(row.hub_id), row.revision


def _tokenizer_folder(folder: Path, key: str) -> Path:
    if not _holds_tokenizer(folder):
        raise BadInput(
            f"{key}={folder} holds no tokenizer",
            "allowed: a folder with tokenizer.json, or with vocab.json and merges.txt",
            "type tokenizer.path=<folder>",
        )
    return folder


def _holds_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or all((folder / n).is_file() for n in ("vocab.json", "merges.txt"))


def check_reachable(config: ModelConfig) -> None:
    """BadInput when the weights lie on the hub and neither it nor a cached copy is within reach, or the login lacks."""
    row = describe(config)
    if config.device_map is not None and find_spec("accelerate") is None:
        raise BadInput(
            f"model.device_map={config.device_map}",
            "allowed: with the package accelerate",
            "type pip install 'raysae[sharded]'",
        )
    if row.hub_id is None or config.randomize:
        return
    try:
        with quiet():
            _reach(row.hub_id, row.revision, "config.json")
    except (OSError, ValueError, RuntimeError) as error:
        raise _unloadable(f"model {row.hub_id}", row, error, f"{USE_FOLDER}, or model.randomize=true") from error


def _reach(hub_id: str, revision: str | None, file: str) -> None:
    """One request without retries: the libraries' own take half a minute to find that there is no network."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    if isinstance(try_to_load_from_cache(hub_id, file, revision=revision or "main"), str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(hub_id, file, revision=revision or "main"), timeout=10)
    except EntryNotFoundError:
        return  # the hub answers; what the repository lacks is for the loader to say
    except Exception as error:  # which HTTP library the hub client uses, and so what it raises, differs by release
        raise OSError(str(error)) from error


def _unloadable(what: str, row: ModelRow | None, error: Exception, cure: str) -> BadInput:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if row is not None and row.gated:
        cure = f"accept its licence at huggingface.co/{row.hub_id} and set HF_TOKEN, or {cure}"
    return BadInput(f"{what} cannot be loaded ({reason})", "allowed: a readable folder, or the hub within reach", cure)


__all__ = [
    "check_reachable",
    "check_tokenizer",
    "describe",
    "fitting_tokenizer",
    "load_model",
    "load_tokenizer",
    "model_inputs",
    "random_twin",
    "tokenizer_definition",
    "tokenizer_sha256",
    "vocabulary_sha256",
]
