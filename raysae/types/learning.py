"""What is learnt in an experiment: the dictionary, its loss, how long it is trained, what is tried."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from raysae.types.hookpoint import HookPoint
from raysae.types.part import RUN_ONLY, Part

MOST_SEEDS = 1000


class SAEConfig(Part):
    """The dictionary."""

    architecture: str = "batch_topk"
    """A row of `raysae.saes.ARCHITECTURES`."""
    hookpoint: HookPoint | None = None
    """Which captured tensor it reads; null: the first of `capture.hookpoints`."""
    also_at: tuple[HookPoint, ...] = ()
    """Other captured tensors for which SAEs are trained as well: `transfer_map` holds them against these, nothing else
    reads them."""
    expansion: int = Field(default=8, gt=0)
    """d_sae / d_in."""
    k: int = Field(default=8, gt=0)
    """Latents per token of TopK-like architectures."""


Form = Literal["repaired", "literal"]


class LossConfig(Part):
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


class TrainConfig(Part):
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
    k_anneal_fraction: float = Field(default=0.5, ge=0, lt=1)
    """Share of the steps over which k falls linearly from 4k to k (SCIENCE 3.4); the rest is trained at k."""
    resample_steps: int = Field(default=0, ge=0)
    """Steps between two resamplings of dead latents, none in the last third of training; 0 leaves them to AuxK."""
    dead_after_tokens: int = Field(default=100_000, gt=0)
    """A latent silent for so many tokens counts as dead."""
    seeds: int | tuple[int, ...] = 2
    """How many independent SAEs, or their numbers."""
    documents: Literal["shared", "own"] = "shared"
    """`own`: the token blocks of TRAIN are dealt out among the seeds, so that no two learn from one document."""
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
    """Of the encoder's product, what it selects, and what a list's sums read; weights, gradients and Adam are held in
    float32 either way. On a CPU the sums over latents and tokens are rounded to bfloat16 once they are made."""
    gpu: Annotated[bool, Field(json_schema_extra=RUN_ONLY)] = False

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        if isinstance(self.seeds, int) and not 0 < self.seeds <= MOST_SEEDS:
            raise ValueError(f"train.seeds={self.seeds}; allowed: 1 to {MOST_SEEDS:,}; type train.seeds=5")
        if isinstance(self.seeds, tuple) and len(set(self.seeds)) != len(self.seeds):
            raise ValueError(
                f"train.seeds={list(self.seeds)} repeats a seed; allowed: distinct numbers; type train.seeds=[0,1]"
            )
        if not self.seed_numbers:
            raise ValueError("train.seeds=[] trains nothing; allowed: at least one; type train.seeds=[0,1]")
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


class RivalConfig(Part):
    """Another recipe for the same dictionary, trained on the same tokens in the same order; what is not given here is
    as in the experiment. It is measured beside the real SAEs and decides nothing."""

    architecture: str | None = None
    k_anneal_fraction: float | None = Field(default=None, ge=0, lt=1)
    l1: float | None = Field(default=None, ge=0)


class SweepConfig(Part):
    """Ray Tune over the recipe of the SAE, judged on FIT. An axis without values stays as in the experiment."""

    trials: int = Field(default=0, ge=0)
    """How many points to try; 0 skips the sweep and trains `sae` as it stands."""
    search: Literal["grid", "tpe", "nsga2"] = "grid"
    """`grid`: combinations of the values below, the points that share a stream of activations trained together. `tpe`
    and `nsga2` (Optuna, several objectives): points between the least and the greatest value of every axis, evenly in
    the logarithm where the least is above 0, each after the results of those before it."""
    scheduler: Literal["none", "asha"] = "none"
    """`asha` stops a trial early that at a rung is not in the better half of those that came there; a search takes what
    it had then for its result. Trials are trained apart, and with `concurrent` above 1 it depends on who comes first
    which of them are stopped."""
    round: int = Field(default=2, gt=0)
    """Points that a search suggests before it hears of any of them. This, not `concurrent`, is part of which points
    are tried: 1 or 2 trials at the same time end with the same ones."""
    expansion: tuple[PositiveInt, ...] = (4, 8)
    k: tuple[PositiveInt, ...] = (4, 8, 16)
    """For TopK-like architectures."""
    l1: tuple[NonNegativeFloat, ...] = (1e-3, 3e-3, 1e-2)
    """For ReLU and gated."""
    l0: tuple[NonNegativeFloat, ...] = ()
    """For JumpReLU."""
    decorrelation: tuple[NonNegativeFloat, ...] = ()
    probe: tuple[NonNegativeFloat, ...] = ()
    """Where the text has labels."""
    lr: tuple[PositiveFloat, ...] = ()
    architecture: tuple[str, ...] = ()
    steps: int = Field(default=300, gt=0)
    """Training steps of a trial."""
    concurrent: Annotated[int, Field(gt=0, json_schema_extra=RUN_ONLY)] = 2
    """Trials at the same time, one CPU each."""
