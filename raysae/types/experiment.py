"""One experiment: a frozen tree (`loading.py` reads it from YAML).

What an experiment is *made of* is fingerprinted (`fingerprint`); how it is run (actors, paths) is not: those fields
carry `RUN_ONLY` and may change between two attempts at the same run folder.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from raysae.types.budget import BudgetConfig
from raysae.types.hookpoint import HookPoint
from raysae.types.learning import LossConfig, RivalConfig, SAEConfig, SweepConfig, TrainConfig
from raysae.types.overhead import OverheadConfig
from raysae.types.part import RUN_ONLY, Part, identity_of
from raysae.types.place import Place
from raysae.types.text import CorpusConfig, QualityConfig, TokenizerConfig


class ModuleNames(Part):
    """Where to look inside an architecture: as `named_modules` of its transformers class writes them."""

    stack: str
    """Path of the list of blocks."""
    attention: str
    """Name of the attention inside a block; what it returns first is `attn_out`."""
    mlp: str = "mlp"
    """Name of the MLP inside a block; what it returns is `mlp_out`."""
    down: str
    """Name of the down-projection inside the MLP, empty where it is the MLP itself; what it reads is `mlp_hidden`."""


class ModelConfig(Part):
    """The language model under study."""

    name: str = "tiny-cot"
    """A row of `raysae models`."""
    path: Annotated[Path | None, Field(json_schema_extra=RUN_ONLY)] = None
    """A Hugging Face folder with safetensors weights; its content is fingerprinted."""
    randomize: bool = False
    """The same architecture with fresh weights from `seed`."""
    seed: int = 0
    """Seed of fresh weights: of `randomize` and of the random-weights twin."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the forward pass."""
    width: int | None = Field(default=None, gt=0)
    """Dimensions that a map writes states in; null: its own. A language model has the width it has."""
    attention: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] = "sdpa"
    """Kernel of the attention, by transformers' name; the same for every arm."""
    device_map: Annotated[Literal["auto"] | None, Field(json_schema_extra=RUN_ONLY)] = None
    """`auto` spreads a model that one GPU cannot hold over those of its actor (capture.gpus_per_actor); asks for the
    package accelerate."""
    modules: ModuleNames | None = None
    """For an architecture that `raysae models` does not list; with `path`."""

    @model_validator(mode="after")
    def _modules_of_a_folder(self) -> "ModelConfig":
        if self.modules is not None and self.path is None:
            raise ValueError("model.modules without model.path; allowed: with a folder; type model.path=<folder>")
        return self


class CaptureConfig(Part):
    """Token blocks to activation blocks."""

    hookpoints: tuple[HookPoint, ...] = (HookPoint(layer=1, site="resid_post"),)
    """Every tensor to keep; the forward stops after the last hooked layer."""
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """Precision on disk. A float16 overflow stops the run and names the cure."""
    quarantine: bool = False
    """Leave out, and count, a document with an activation that is not finite or overflows; else the run stops."""
    batch_tokens: int = Field(default=8192, gt=0)
    """Tokens per forward pass, padding included."""
    actors: Annotated[int, Field(gt=0, json_schema_extra=RUN_ONLY)] = 2
    """Actors that hold the model."""
    max_actors: Annotated[int | None, Field(gt=0, json_schema_extra=RUN_ONLY)] = None
    """Where a cluster grows: from `actors` up to so many. Null: a fixed number."""
    cpus_per_actor: Annotated[float, Field(gt=0, json_schema_extra=RUN_ONLY)] = 1
    gpus_per_actor: Annotated[float, Field(ge=0, json_schema_extra=RUN_ONLY)] = 0
    """0 keeps the model on the CPU; 0.25 puts four on a GPU."""

    @field_validator("hookpoints")
    @classmethod
    def _some_and_distinct(cls, value: tuple[HookPoint, ...]) -> tuple[HookPoint, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError(
                "hookpoints must name at least one hook point, each once; type capture.hookpoints=[layers.1.resid_post]"
            )
        return value


class ActivationsConfig(Part):
    """Where activations live between capture and training."""

    mode: Annotated[Literal["cache", "stream"], Field(json_schema_extra=RUN_ONLY)] = "cache"
    """`cache` writes Parquet blocks; `stream` makes the activations of TRAIN while training asks for them, once per SAE
    seed and epoch, and writes only those of FIT and TEST that are read."""


class ProtocolConfig(Part):
    """What is decided, against what."""

    mode: Literal["exploratory", "confirmatory"] = "exploratory"
    """A confirmatory protocol must pass its power check; only its verdict counts for gates."""
    phase: int | None = Field(default=None, ge=1, le=4)
    """Phase N starts only where the ledger beside the run folder (`out/ledger.jsonl`) holds a confirmatory GO of phase
    N-1."""
    criteria: tuple[str, ...] = ("reconstruction", "sparsity", "fidelity", "alignment", "causal_interchange")
    """Rows of `raysae.falsification.criterion.CRITERIA`."""
    nulls: tuple[str, ...] = (
        "random_model",
        "random_dictionary",
        "frozen_decoder",
        "frozen_encoder",
        "permuted_labels",
        "matched_latents",
        "random_direction",
    )
    """Rows of `raysae.falsification.nulls.NULLS`."""
    observations: tuple[str, ...] = ()
    """Rows of `raysae.stages.exhibits.OBSERVATIONS`: measured and printed, without a threshold or a verdict."""
    alive_rate: float = Field(default=1e-3, gt=0, lt=1)
    """A latent is alive if it fires on more than this share of FIT tokens."""
    bootstrap: int = Field(default=2000, ge=200)
    """Bootstrap replicates."""
    permutations: int = Field(default=200, ge=20)
    """Draws of the permuted-label and matched-latent nulls."""
    test_tokens: int = Field(default=60_000, gt=0)
    """TEST tokens read by activation metrics, at most, in whole documents."""
    test_documents: int = Field(default=400, gt=0)
    """TEST documents of the spliced forward passes, at most."""
    pairs: int = Field(default=200, gt=0)
    """Interchange pairs per variable value."""
    latents_per_value: int = Field(default=1, gt=0)
    """Latents an interchange may use for each value of a variable."""
    least_f1: float = Field(default=0.0, ge=0, le=1)
    """FIT F1 below which a latent is not used for a value. A variable that always has one of its values can be written
    without a latent for one of them, and what fits that value best then belongs to something else."""
    attributed_latents: int = Field(default=30, gt=0)
    """Latents judged by causal_attribution: those with the largest FIT slopes, the denominator of the criterion."""
    attribution_sites: int = Field(default=16, gt=0)
    """Tokens of each split at which each alive latent is pushed, at most."""
    attribution_window: int = Field(default=8, gt=0)
    """Next tokens whose log-probability is the task score."""
    answer_shots: int = Field(default=0, ge=0)
    """Solved TRAIN problems shown before each problem of a benchmark; 0 for a model that was trained on such text."""
    answer_tokens: int = Field(default=256, gt=0)
    """Tokens that a solution may have."""
    stand_in: str | None = None
    """A null of the table that takes the real arm's place, to see that nothing comes of it."""
    transfer_from: Annotated[Place | None, Field(json_schema_extra=RUN_ONLY)] = None
    """Folder of a finished run whose SAEs `transfer` judges on this run's TEST; its content is sealed."""
    map_from: Annotated[Place | None, Field(json_schema_extra=RUN_ONLY)] = None
    """Folder of a finished run on another model and the same text, for `transfer_map`; its content is sealed."""
    actors: Annotated[int, Field(gt=0, json_schema_extra=RUN_ONLY)] = 2
    """Actors that examine SAEs; how many changes no number."""


class TrackingConfig(Part):
    """Who else is told."""

    wandb: Literal["off", "offline", "online"] = "off"
    """Weights & Biases: `offline` writes to `out` for `wandb sync`; `online` needs WANDB_API_KEY."""
    project: str = "raysae"
    entity: str | None = None
    """Null: the key's own."""
    tensorboard: bool = False
    """Write the training curves of every SAE to `out/tensorboard`."""


class Experiment(Part):
    """The whole of it."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$", json_schema_extra=RUN_ONLY)]
    """Folder name under `out`; default: the YAML's file name."""
    out: Annotated[Place, Field(json_schema_extra=RUN_ONLY)] = Path("runs")
    """Folder that holds the run folders and the ledger, or its address on an object store (s3://, gs://)."""
    seed: int = 0
    """Everything random derives from it, each consumer through its own named stream (`stream_seed`)."""
    corpus: CorpusConfig = CorpusConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    quality: Annotated[QualityConfig, Field(json_schema_extra=RUN_ONLY)] = QualityConfig()
    model: ModelConfig = ModelConfig()
    capture: CaptureConfig = CaptureConfig()
    overhead: OverheadConfig = OverheadConfig()
    activations: ActivationsConfig = ActivationsConfig()
    sae: SAEConfig = SAEConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    rivals: dict[Annotated[str, Field(pattern=r"^[a-z]\w*$")], RivalConfig] = {}
    """Name -> recipe: arms that `alignment` shows beside the real one."""
    sweep: SweepConfig = SweepConfig()
    protocol: ProtocolConfig = ProtocolConfig()
    tracking: Annotated[TrackingConfig, Field(json_schema_extra=RUN_ONLY)] = TrackingConfig()
    budget: Annotated[BudgetConfig, Field(json_schema_extra=RUN_ONLY)] = BudgetConfig()
    beside: Annotated[
        dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], dict[str, Any]], Field(json_schema_extra=RUN_ONLY)
    ] = {}
    """Name -> keys that differ: experiments that are run before this one, each in a folder `<this one>-<name>` and
    under a seal of its own. The report shows their verdicts; they count for nothing and open no gate."""

    @model_validator(mode="after")
    def _sae_reads_what_is_captured(self) -> "Experiment":
        allowed = ", ".join(map(str, self.capture.hookpoints))
        if self.sae.hookpoint is not None and self.sae.hookpoint not in self.capture.hookpoints:
            raise ValueError(
                f"sae.hookpoint={self.sae.hookpoint} is not captured; allowed: {allowed}; "
                f"type sae.hookpoint={self.capture.hookpoints[0]}"
            )
        others = self.sae.also_at
        if self.hookpoint in others or len(set(others)) < len(others) or set(others) - set(self.capture.hookpoints):
            raise ValueError(
                f"sae.also_at={', '.join(map(str, others))}; allowed: of {allowed}, each once and without "
                f"{self.hookpoint}; add what is missing to capture.hookpoints"
            )
        return self

    @property
    def folder(self) -> Path:
        return self.out / self.name

    @property
    def hookpoint(self) -> HookPoint:
        """The hook point the SAE reads."""
        return self.sae.hookpoint or self.capture.hookpoints[0]

    def arm(self, name: str) -> "Experiment":
        """The experiment as the arm called `name` is trained."""
        for point in self.sae.also_at:
            if str(point) == name:
                return self.model_copy(update={"sae": self.sae.model_copy(update={"hookpoint": point})})
        rival = self.rivals.get(name)
        if rival is None:
            return self

        def changed(part: Part, **given: Any) -> Part:
            return part.model_copy(update={key: value for key, value in given.items() if value is not None})

        parts = {
            "sae": changed(self.sae, architecture=rival.architecture),
            "loss": changed(self.loss, l1=rival.l1),
            "train": changed(self.train, k_anneal_fraction=rival.k_anneal_fraction),
        }
        return self.model_copy(update=parts)

    def identity(self) -> dict[str, Any]:
        """The fields that say what this experiment is, as plain JSON values."""
        return identity_of(self)

    def fingerprint(self) -> str:
        """SHA-256 of `identity`."""
        return fingerprint(self.identity())


def stream_seed(seed: int, stream: str) -> int:
    """A 63-bit seed for the consumer called `stream`: two streams of one experiment never share a seed."""
    return int.from_bytes(hashlib.sha256(f"raysae:{seed}:{stream}".encode()).digest()[:8], "big") >> 1


def fingerprint(value: Any) -> str:
    """SHA-256 of the canonical JSON (sorted keys, no spaces) of plain values."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """Sorted keys, UTF-8, no spaces, NaN refused: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
