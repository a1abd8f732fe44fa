"""One experiment: a frozen tree (`loading.py` reads it from YAML).

What an experiment is *made of* is fingerprinted (`fingerprint`); how it is run (actors, paths) is not: those fields
carry `RUN_ONLY` and may change between two attempts at the same run folder.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from raysae.types.hookpoint import HookPoint

RUN_ONLY: dict[str, JsonValue] = {"run_only": True}
"""Marks a field that says how a run is carried out, not what it is."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SplitShares(_Part):
    """How rows without a split of their own are divided, by a hash of the problem."""

    fit: float = Field(default=0.1, gt=0, lt=1)
    """Share of problems in FIT."""
    test: float = Field(default=0.2, gt=0, lt=1)
    """Share of problems in TEST; unused when the source has test rows of its own."""
    near: float | None = Field(default=0.8, gt=0, le=1)
    """Problems whose words overlap by so much (Jaccard index of runs of three) share a split; null: only equal ones do.
    Generated corpora are told apart exactly."""

    @model_validator(mode="after")
    def _leaves_train(self) -> "SplitShares":
        if self.fit + self.test >= 1:
            raise ValueError(
                f"fit + test = {self.fit + self.test:g} leaves nothing for TRAIN; type for example fit=0.1 test=0.2"
            )
        return self


class CorpusConfig(_Part):
    """The reasoning text."""

    name: str | tuple[str, ...] = "arithmetic_cot"
    """Corpus name, or several."""
    config: str | tuple[str, ...] = "main"
    """Configuration of the source, or several (GSM8K: main, socratic); of several corpora each takes those it has."""
    path: Annotated[Path | dict[str, Path] | None, Field(json_schema_extra=RUN_ONLY)] = None
    """A file or folder in the source's own layout, or one per corpus name, or a folder with a folder per corpus; null:
    the hub. Its content is fingerprinted, not where it is."""
    columns: dict[str, str] = {}
    """For the corpora `jsonl` and `parquet`: field of a record -> column of the file, where the names differ."""
    weights: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Corpus name -> relative number of its TRAIN records. The scarcest is taken whole, the others are thinned by a
    hash of the record; a corpus without a weight is whole. FIT and TEST are never thinned."""
    records: int | None = Field(default=None, gt=0)
    """How many records to take from the start of each file, or to generate; null takes all."""
    splits: SplitShares = SplitShares()
    block_records: int = Field(default=2048, gt=0)
    """Records per corpus block, at most."""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,) if isinstance(self.name, str) else self.name

    @property
    def configs(self) -> tuple[str, ...]:
        return (self.config,) if isinstance(self.config, str) else self.config

    @model_validator(mode="after")
    def _keyed_by_name(self) -> "CorpusConfig":
        for key, mapping in (("weights", self.weights), ("path", self.path)):
            unknown = sorted(set(mapping) - set(self.names)) if isinstance(mapping, dict) else []
            if unknown:
                raise ValueError(f"{key} names {unknown[0]!r}; allowed: {', '.join(self.names)}; add it to corpus.name")
        return self


class TokenizerConfig(_Part):
    """Text to tokens."""

    name: str | None = None
    """Hub id of a fast tokenizer; null takes the model's own."""
    path: Annotated[Path | None, Field(json_schema_extra=RUN_ONLY)] = None
    """A folder with `tokenizer.json`; its content is fingerprinted."""
    ctx_len: int | None = Field(default=None, gt=1)
    """Tokens per document at most; null: the smaller of 2,048 and the model's own limit."""
    block_tokens: int = Field(default=2_097_152, gt=0)
    """Tokens per block, at most; a block ends where the next row would not fit."""
    layout: Literal["documents", "packed"] = "documents"
    """`documents`: a row per document. `packed`: rows of `ctx_len` tokens, documents joined by EOS."""
    overflow: Literal["truncate", "window"] = "truncate"
    """A document longer than `ctx_len` is cut off there, or cut into rows of that length; packed rows never need it."""
    workers: Annotated[int, Field(gt=0, json_schema_extra=RUN_ONLY)] = 2
    """Processes that tokenize."""


class QualityConfig(_Part):
    """What the text must be like before a model reads it; beyond a limit the run stops and names figure and limit.

    Limits change nothing that is made, so they may differ between two attempts at the same folder; `quality.json` keeps
    those that were used.
    """

    min_coverage: float = Field(default=0.95, ge=0, le=1)
    """Share of a corpus's steps that the aligners place in its text."""
    max_abstention: float = Field(default=0.05, ge=0, le=1)
    """Share of the tokens in steps on which no two aligners agree."""
    min_agreement: float = Field(default=0.67, ge=-1, le=1)
    """Lower bound of Krippendorff's alpha between the aligners (SCIENCE 7)."""
    min_known_f1: float = Field(default=0.9, ge=0, le=1)
    """Lower bound of token and boundary F1 against the spans a corpus knows, hidden from the aligners (SCIENCE 7)."""
    max_changed_ids: float = Field(default=0.01, ge=0, le=1)
    """Share of token ids that change outside the place of a changed space or punctuation mark."""
    max_quarantined: float = Field(default=0.1, ge=0, le=1)
    """Share of a corpus's rows that could not be read."""
    sample_documents: int = Field(default=1000, gt=0)
    """Documents per corpus that agreement is measured on, at most; a tenth of them for changed ids."""


class ModelConfig(_Part):
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


class CaptureConfig(_Part):
    """Token blocks to activation blocks."""

    hookpoints: tuple[HookPoint, ...] = (HookPoint(layer=1, site="resid_post"),)
    """Every tensor to keep; the forward stops after the last hooked layer."""
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """Precision on disk. A float16 overflow stops the run and names the cure."""
    batch_tokens: int = Field(default=8192, gt=0)
    """Tokens per forward pass, padding included."""
    actors: Annotated[int, Field(gt=0, json_schema_extra=RUN_ONLY)] = 2
    """Actors that hold the model."""
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


class ActivationsConfig(_Part):
    """Where activations live between capture and training."""

    mode: Annotated[Literal["cache"], Field(json_schema_extra=RUN_ONLY)] = "cache"
    """`cache` writes Parquet blocks."""


class SAEConfig(_Part):
    """The dictionary."""

    architecture: str = "batch_topk"
    """A row of `raysae.saes.ARCHITECTURES`."""
    hookpoint: HookPoint | None = None
    """Which captured tensor it reads; null: the first of `capture.hookpoints`."""
    expansion: int = Field(default=8, gt=0)
    """d_sae / d_in."""
    k: int = Field(default=8, gt=0)
    """Latents per token of TopK-like architectures."""


Form = Literal["repaired", "literal"]


class LossConfig(_Part):
    """Weights of the loss terms beside reconstruction."""

    l1: float = Field(default=0.0, ge=0)
    """Of the mean L1 norm of a token's latents (ReLU, gated)."""
    l0: float = Field(default=0.0, ge=0)
    """Of the mean number of active latents (JumpReLU)."""
    decorrelation: float = Field(default=0.0, ge=0)
    """Of the decoder's excess cosine similarity (SCIENCE S4, repaired form)."""
    probe: float = Field(default=0.0, ge=0)
    """Of a linear probe's cross-entropy on the labels of TRAIN tokens; the probe is trained beside the SAE."""
    probe_label: str | None = None
    """The variable of `labels/` that the probe reads; with it and `probe=0` the probe only watches. Null with
    `probe` above 0 takes the first."""
    temporal: float = Field(default=0.0, ge=0)
    """Of the change of latents between neighbouring tokens of one document and step, over their mean square."""
    aux: float = Field(default=1 / 32, ge=0)
    """Of AuxK, the reconstruction of the residual by dead latents."""
    decorrelation_form: Form = "repaired"
    """`literal` is the plan's sum of inner products, which rewards pairs of opposite rows (SCIENCE S4)."""
    temporal_form: Form = "repaired"
    """`literal` is the plan's ||h_t - h_t+1||^2, which rewards latents that vanish (SCIENCE S4)."""

    @property
    def probes(self) -> bool:
        return self.probe > 0 or self.probe_label is not None


class TrainConfig(_Part):
    """How long and with what the SAEs are trained."""

    steps: int = Field(default=1000, gt=0)
    batch_tokens: int = Field(default=1024, gt=0)
    """Tokens per step over all workers."""
    lr: float = Field(default=3e-3, gt=0)
    """Peak learning rate of Adam."""
    warmup_steps: int = Field(default=50, ge=0)
    penalty_warmup_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of the steps over which the L1 and L0 penalties rise linearly from 0."""
    decay_fraction: float = Field(default=0.3, ge=0, le=1)
    """Share of the steps, at the end, over which the rate falls linearly to 0."""
    k_anneal_fraction: float = Field(default=0.5, ge=0, le=1)
    """Share of the steps over which k falls linearly from 4k to k (SCIENCE 3.4)."""
    resample_steps: int = Field(default=0, ge=0)
    """Steps between two resamplings of dead latents, none in the last third of training; 0 leaves them to AuxK."""
    dead_after_tokens: int = Field(default=100_000, gt=0)
    """A latent silent for so many tokens counts as dead."""
    seeds: int | tuple[int, ...] = 2
    """How many independent SAEs, or their numbers."""
    shards: int = Field(default=2, gt=0)
    """A batch is cut into so many shards, each selected and differentiated alone, then summed pairwise. This, not the
    number of workers, is part of what the SAE is: 1 or 2 workers give the same weights, bit for bit."""
    workers: Annotated[int, Field(gt=0, json_schema_extra=RUN_ONLY)] = 2
    """Ray Train workers; 1, 2, 4, ... and a divisor of `shards`: sums over workers are pairwise."""
    together: Annotated[int, Field(gt=0, json_schema_extra=RUN_ONLY)] = 8
    """SAEs on one stream of activations that are trained at the same time, each batch read once for all of them."""
    checkpoint_steps: Annotated[int, Field(gt=0, json_schema_extra=RUN_ONLY)] = 250
    """Steps between two checkpoints."""
    keep_checkpoints: Annotated[int, Field(gt=0, json_schema_extra=RUN_ONLY)] = 2
    """How many of the newest are kept while an SAE is in training, beside the best; none once it is finished."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the encoder's product and what it selects; weights, gradients and Adam are float32 either way."""
    gpu: Annotated[bool, Field(json_schema_extra=RUN_ONLY)] = False

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        if isinstance(self.seeds, tuple) and len(set(self.seeds)) != len(self.seeds):
            raise ValueError(
                f"train.seeds={list(self.seeds)} repeats a seed; allowed: distinct numbers; type train.seeds=[0,1]"
            )
        if not self.seed_numbers:
            raise ValueError("train.seeds=0 trains nothing; allowed: at least 1; type train.seeds=2")
        if self.workers & (self.workers - 1):
            raise ValueError(
                f"train.workers={self.workers} cannot sum pairwise; allowed: 1, 2, 4, 8, ...; "
                f"type train.workers={1 << (self.workers.bit_length() - 1)}"
            )
        if self.shards % self.workers:
            raise ValueError(
                f"train.workers={self.workers} does not divide train.shards={self.shards}; "
                f"allowed: a divisor; type train.shards={self.workers}"
            )
        if self.batch_tokens % self.shards:
            raise ValueError(
                f"train.batch_tokens={self.batch_tokens} is not a multiple of train.shards={self.shards}; "
                f"type train.batch_tokens={-(-self.batch_tokens // self.shards) * self.shards}"
            )
        return self


class SweepConfig(_Part):
    """Ray Tune over expansion and sparsity, judged on FIT."""

    trials: int = Field(default=0, ge=0)
    """How many points of the grid to try; 0 skips the sweep and trains `sae` as it stands."""
    expansion: tuple[int, ...] = (4, 8)
    k: tuple[int, ...] = (4, 8, 16)
    """For TopK-like architectures."""
    l1: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """For ReLU."""
    steps: int = Field(default=300, gt=0)
    """Training steps of a trial."""
    concurrent: Annotated[int, Field(gt=0, json_schema_extra=RUN_ONLY)] = 2
    """Trials at the same time, one CPU each."""


class ProtocolConfig(_Part):
    """What is decided, against what."""

    mode: Literal["exploratory", "confirmatory"] = "exploratory"
    """A confirmatory protocol must pass its power check; only its verdict counts for gates."""
    phase: int | None = Field(default=None, ge=1, le=4)
    """Phase N starts only where the ledger of the runs folder holds a confirmatory GO of phase N-1."""
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
    attributed_latents: int = Field(default=30, gt=0)
    """Latents judged by causal_attribution: those with the largest FIT slopes, the denominator of the criterion."""
    attribution_sites: int = Field(default=16, gt=0)
    """Tokens of each split at which each alive latent is pushed, at most."""
    attribution_window: int = Field(default=8, gt=0)
    """Next tokens whose log-probability is the task score."""
    actors: Annotated[int, Field(gt=0, json_schema_extra=RUN_ONLY)] = 2
    """Actors that examine SAEs; how many changes no number."""


class Experiment(_Part):
    """The whole of it."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$", json_schema_extra=RUN_ONLY)]
    """Folder name under `out`; default: the YAML's file name."""
    out: Annotated[Path, Field(json_schema_extra=RUN_ONLY)] = Path("runs")
    """Folder that holds the run folders and the ledger."""
    seed: int = 0
    """Everything random derives from it, each consumer through its own named stream (`stream_seed`)."""
    corpus: CorpusConfig = CorpusConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    quality: Annotated[QualityConfig, Field(json_schema_extra=RUN_ONLY)] = QualityConfig()
    model: ModelConfig = ModelConfig()
    capture: CaptureConfig = CaptureConfig()
    activations: ActivationsConfig = ActivationsConfig()
    sae: SAEConfig = SAEConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    sweep: SweepConfig = SweepConfig()
    protocol: ProtocolConfig = ProtocolConfig()

    @model_validator(mode="after")
    def _sae_reads_what_is_captured(self) -> "Experiment":
        if self.sae.hookpoint is not None and self.sae.hookpoint not in self.capture.hookpoints:
            allowed = ", ".join(map(str, self.capture.hookpoints))
            raise ValueError(
                f"sae.hookpoint={self.sae.hookpoint} is not captured; allowed: {allowed}; "
                f"type sae.hookpoint={self.capture.hookpoints[0]}"
            )
        return self

    @property
    def folder(self) -> Path:
        return self.out / self.name

    @property
    def hookpoint(self) -> HookPoint:
        """The hook point the SAE reads."""
        return self.sae.hookpoint or self.capture.hookpoints[0]

    def identity(self) -> dict[str, Any]:
        """The fields that say what this experiment is, as plain JSON values."""
        return _identity(self)

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


def run_only(part: type[BaseModel]) -> set[str]:
    """Names of its fields that are marked RUN_ONLY."""
    extras = {name: field.json_schema_extra for name, field in part.model_fields.items()}
    return {name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("run_only")}


def _identity(part: BaseModel) -> dict[str, Any]:
    """A field marked RUN_ONLY is left out, at any depth."""
    kept: dict[str, Any] = {}
    left_out = run_only(type(part))
    for name in type(part).model_fields:
        if name in left_out:
            continue
        value = getattr(part, name)
        kept[name] = (
            _identity(value) if isinstance(value, _Part) else part.model_dump(mode="json", include={name})[name]
        )
    return kept
