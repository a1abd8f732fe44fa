"""The text of an experiment: corpora, splits, tokens, and what the text must be like."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from raysae.types.part import RUN_ONLY, Part


class SplitShares(Part):
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


class CorpusConfig(Part):
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
        for key, names, one in (("name", self.names, "arithmetic_cot"), ("config", self.configs, "main")):
            if not names:
                raise ValueError(f"corpus.{key}=[]; allowed: at least one; type corpus.{key}={one}")
        for key, mapping in (("weights", self.weights), ("path", self.path)):
            unknown = sorted(set(mapping) - set(self.names)) if isinstance(mapping, dict) else []
            if unknown:
                raise ValueError(f"{key} names {unknown[0]!r}; allowed: {', '.join(self.names)}; add it to corpus.name")
        return self


class TokenizerConfig(Part):
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


class QualityConfig(Part):
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
