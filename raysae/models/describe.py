"""What a model looks like, before any weight is read: a row of the registry, or the config.json of a folder."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from raysae.errors import BadInput
from raysae.models.compiled import is_compiled
from raysae.models.maps import WIDTHS, is_map, map_row
from raysae.models.registry import MODELS, ModelRow
from raysae.store import sha256_file
from raysae.types.experiment import ModelConfig, ModuleNames

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

BUNDLED = Path(__file__).parent / "bundled"
ARCHITECTURES = {
    "gpt2": "GPT2LMHeadModel",
    "gpt_neox": "GPTNeoXForCausalLM",
    "llama": "LlamaForCausalLM",
    "gemma": "GemmaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi": "PhiForCausalLM",
}
"""`model_type` of a config.json -> class name in transformers."""

USE_FOLDER = "type model.path=<Hugging Face folder with config.json and model.safetensors>"


def describe(config: ModelConfig) -> ModelRow:
    """What the model looks like, without its weights. BadInput for an unknown name or an unusable folder."""
    if is_map(config):
        return map_row(config)
    if config.width is not None:
        raise BadInput(
            f"model.width={config.width} for {config.name}",
            f"allowed: only for the maps {' and '.join(WIDTHS)}; a language model has a width of its own",
            "remove model.width",
        )
    folder = model_folder(config)
    if folder is None:
        return MODELS[config.name]
    details = folder_config(folder, config.modules)
    if not config.randomize:
        _check_weights(folder)
    known = None if config.path is not None else MODELS[config.name]
    layers, d_model = int(details.num_hidden_layers), int(details.hidden_size)
    if config.modules is not None:
        d_mlp = check_modules(details, config.modules)
    else:
        d_mlp = getattr(details, "intermediate_size", None) or getattr(details, "n_inner", None) or 4 * d_model
    return ModelRow(
        name=known.name if known else folder.resolve().name,
        hub_id=None,
        revision=None,
        architecture=_architecture(folder, details),
        layers=layers,
        d_model=d_model,
        d_mlp=int(d_mlp),
        vocab_size=int(details.vocab_size),
        ctx_len=int(details.max_position_embeddings),
        licence=known.licence if known else "unknown",
        gated=False,
        probe_layer=layers // 2,
        bundled=known is not None,
    )


def model_inputs(config: ModelConfig) -> dict[str, str]:
    """What the model is made from, by content: SHA-256 of its files, or the hub's commit. For fingerprints."""
    if is_map(config):
        return {"map": f"{config.name}, {map_row(config).d_model} dimensions, seed {config.seed}"}
    if is_compiled(config):
        return {"compiled": f"{config.name}, seed {config.seed}"}
    folder = model_folder(config)
    if folder is None:
        row = MODELS[config.name]
        return {"hub": f"{row.hub_id}@{'registry' if config.randomize else row.revision}"}
    weights = [] if config.randomize else sorted(folder.glob("*.safetensors"))
    return {path.name: _sha256(path) for path in [folder / "config.json", *weights] if path.is_file()}


def _sha256(path: Path) -> str:
    seen = path.stat()
    return _sha256_of(path, seen.st_size, seen.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256_of(path: Path, size: int, changed_ns: int) -> str:
    """Once per process for a file that did not change: several stages ask, and weights are gigabytes."""
    return sha256_file(path)


def tokenizer_folder(config: ModelConfig) -> Path | None:
    """Where the model's tokenizer lies on this machine; as `model_folder`, where there is a model of its own."""
    if is_map(config):
        return BUNDLED / "states"
    return BUNDLED / "compiled" if is_compiled(config) else model_folder(config)


def model_folder(config: ModelConfig) -> Path | None:
    """Where the model lies on this machine; null for one of the hub and for one that is made. BadInput for unknown
    names and missing folders."""
    if config.path is not None:
        folder = Path(config.path).expanduser()
        if not folder.is_dir():
            raise BadInput(f"model.path={config.path}: no such folder", "allowed: a Hugging Face folder", USE_FOLDER)
        return folder
    if is_map(config) or is_compiled(config):
        return None
    if config.name not in MODELS:
        raise BadInput(
            f"model.name={config.name!r}",
            f"allowed: {', '.join(MODELS)}",
            f"type model.name=tiny-cot, model.path=<folder>, or for states without a model {' or '.join(WIDTHS)}",
        )
    if not MODELS[config.name].bundled:
        return None
    folder = BUNDLED / config.name
    if not (folder / "config.json").is_file():
        raise BadInput(
            f"the bundled model {config.name} is not in this installation", f"expected: {folder}", "install raysae anew"
        )
    return folder


def folder_config(folder: Path, modules: ModuleNames | None = None) -> "PreTrainedConfig":
    """The config.json of a folder as its own config class. BadInput for an architecture that nobody can look into."""
    path = folder / "config.json"
    if not path.is_file():
        raise BadInput(f"model.path={folder} has no config.json", "allowed: a Hugging Face folder", USE_FOLDER)
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"a JSON {type(values).__name__}, not an object")
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be read ({error})", "allowed: the config.json of a model", f"mend {path}"
        ) from error
    kind = str(values.get("model_type"))
    if kind not in ARCHITECTURES and (modules is None or kind not in causal_classes()):
        known = ", ".join(ARCHITECTURES)
        raise BadInput(
            f"{path} is of model_type {kind}",
            f"allowed: {known}, or any causal language model of transformers with model.modules",
            "type model.modules='{stack: model.layers, attention: self_attn, mlp: mlp, down: down_proj}', by its names",
        )
    try:
        with quiet():
            return CONFIG_MAPPING[kind].from_dict(values)
    except (ValueError, TypeError, AttributeError, KeyError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{path} does not describe a {kind} model ({reason})", "allowed: its config.json", f"mend {path}"
        ) from error


def _architecture(folder: Path, details: "PreTrainedConfig") -> str:
    expected = ARCHITECTURES.get(details.model_type) or causal_classes()[details.model_type]
    named = details.architectures or [expected]
    if expected not in named:
        raise BadInput(
            f"{folder} holds a {named[0]}", f"allowed: {expected}, a language model", "choose another model.path"
        )
    return expected


def causal_classes() -> Mapping[str, str]:
    """`model_type` -> class name of its causal language model, for all that transformers has."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def check_modules(details: "PreTrainedConfig", names: ModuleNames) -> int:
    """Width of the MLP after its non-linearity, in the model built without any weight. BadInput for a name that leads
    nowhere, with those that are there."""
    import torch
    from transformers import AutoModelForCausalLM

    with quiet(), torch.device("meta"):
        place: torch.nn.Module = AutoModelForCausalLM.from_config(details)
    first = f"{names.stack}.0"
    for key, path in (("stack", first), ("attention", names.attention), ("mlp", names.mlp), ("down", names.down)):
        inside = place
        try:
            found = inside.get_submodule(path)
        except AttributeError:
            there = [name for name, _ in inside.named_modules() if name and name.count(".") <= path.count(".")]
            raise BadInput(
                f"model.modules.{key}={path.removesuffix('.0')} leads nowhere in a {details.model_type} model",
                f"there are: {', '.join(there[:12])}",
                f"correct model.modules.{key}",
            ) from None
        place = found if key in ("stack", "mlp") else place
    weight = place.get_submodule(names.down).weight
    assert isinstance(weight, torch.Tensor)
    rows, columns = weight.shape
    return int(rows if columns == details.hidden_size and rows != columns else columns)


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return
    if not index.is_file():
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        arrived = (
            f"model.path={folder} has pickled weights only ({pickled[0]})"
            if pickled
            else f"{folder} has no model.safetensors"
        )
        cure = "save it with save_pretrained(folder, safe_serialization=True), or type model.randomize=true"
        raise BadInput(arrived, "allowed: safetensors", cure)
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{index} cannot be read ({error!r})", "allowed: an index of shards", USE_FOLDER) from error
    absent = sorted(shard for shard in shards if not (folder / shard).is_file())
    if absent:
        raise BadInput(
            f"{folder} lacks {len(absent)} of {len(shards)} shards ({absent[0]}, ...)",
            "allowed: all of them",
            USE_FOLDER,
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings, progress bars and retries of the Hugging Face libraries off the terminal."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    before = [(library, library.get_verbosity()) for library in (hub_logging, transformers_logging)]
    bars = transformers_logging.is_progress_bar_enabled()
    for library, _ in before:
        library.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        for library, verbosity in before:
            library.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
