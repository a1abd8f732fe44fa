"""What every SAE of a run is examined with: samples, models and dictionaries, each made once per process."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch

from raysae.corpora.splits import problem_key
from raysae.falsification.metrics import sparsity
from raysae.falsification.metrics.alignment import Alignment, align
from raysae.falsification.metrics.dictionaries import Origin
from raysae.falsification.metrics.matching import permuted_rows
from raysae.falsification.protocol import read
from raysae.models.load import load_model, load_tokenizer, random_twin
from raysae.saes import SparseAutoencoder, checkpoint
from raysae.stages.capture import MAIN, twin_seed
from raysae.stages.dictionaries import arms, dictionary, reads, trained_arms
from raysae.stages.measure import Sample, encode, factor_matrix, read_sample
from raysae.stages.other_run import OtherRun, other_run
from raysae.stages.seal import test_records
from raysae.store import ActivationStore, RunFolder, TokenStore
from raysae.store.order import QUARANTINED
from raysae.types import CorpusRecord, Experiment, HookPoint, Split
from raysae.types.experiment import stream_seed

PERMUTED = "permuted_labels"


class Court:
    """One run. The only place that opens TEST's activations."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.folder = RunFolder(experiment)
        self.protocol = read(self.folder.protocol)
        self.hookpoint: HookPoint = experiment.hookpoint
        self.tokens = TokenStore(self.folder.tokens)
        self.sample_at = cache(self._sample)
        self.store = cache(self._store)
        self.model = cache(self._model)

    def examine(self, arm: str, number: int) -> "Examination":
        return Examination(self, arm, number)

    def seed(self, use: str) -> int:
        """Of a draw that all SAEs of the run share."""
        return stream_seed(self.experiment.seed, f"court/{use}") % 2**32

    def _store(self, source: str) -> ActivationStore:
        return ActivationStore(self.folder.activations / source, splits=tuple(Split))

    def sample(self, source: str, split: Split) -> Sample:
        """At the hook point of the run."""
        return self.sample_at(source, split, str(self.hookpoint))

    def _sample(self, source: str, split: Split, hookpoint: str) -> Sample:
        config = self.experiment.protocol
        sample = read_sample(self.store(source), self.tokens, split, HookPoint.parse(hookpoint), config.test_tokens)
        if config.stand_in != PERMUTED:
            return sample
        rows = permuted_rows(sample.document.numpy(), self.seed(f"stand_in/{split}"))
        return replace(sample, labels={name: values[rows] for name, values in sample.labels.items()})

    def mean(self, source: str, hookpoint: HookPoint) -> torch.Tensor:
        """float32 [d_in], over TRAIN."""
        return torch.from_numpy(self.store(source).mean(hookpoint)).float()

    def _model(self, source: str) -> Any:
        config = self.experiment.model
        return load_model(config) if source == MAIN else random_twin(config, twin_seed(self.experiment))

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.experiment.model, self.experiment.tokenizer)

    @cached_property
    def records(self) -> list[CorpusRecord]:
        """Of TEST, less those that capture quarantined."""
        return [record for record in test_records(self.folder) if record.record_id not in self.quarantined]

    @cached_property
    def quarantined(self) -> set[str]:
        """TEST documents whose activations could not be stored."""
        blocks = self.store(MAIN).blocks(Split.TEST)
        return {document["record"] for block in blocks for document in block.facts.get(QUARANTINED, ())}

    @cached_property
    def other(self) -> OtherRun | None:
        """The run whose SAEs transfer judges here."""
        return other_run(self.experiment)

    def known_to_other(self, records: Sequence[str]) -> np.ndarray:
        """bool: is each of these TEST records of a problem that the other run trained on?"""
        return np.array([name in self._known for name in records], bool)

    @cached_property
    def _known(self) -> set[str]:
        learnt = self.other.trained_on() if self.other else set()
        return {record.record_id for record in self.records if problem_key(record) in learnt}

    @cached_property
    def test_ids(self) -> list[np.ndarray]:
        """The TEST documents that spliced forward passes read, as token ids."""
        found = [
            ids
            for block in self.tokens.blocks(Split.TEST)
            for record, ids, _ in self.tokens.documents(block)
            if record not in self.quarantined
        ]
        return found[: self.experiment.protocol.test_documents]


class Examination:
    """One SAE before the court: the seed `number` of `arm`. Everything is computed when it is first asked for."""

    def __init__(self, court: Court, arm: str, number: int) -> None:
        self.court, self.arm, self.number = court, arm, number
        self.experiment, self.protocol = court.experiment, court.protocol
        self.hookpoint = court.experiment.arm(arm).hookpoint
        stand_in = court.experiment.protocol.stand_in
        self.shown = stand_in if arm == MAIN and stand_in in arms(court.experiment) else arm
        """Whose SAE it is: that of the arm, or of the null in its place."""
        self.source = reads(self.shown)
        """Whose activations it reads."""

    @property
    def fit(self) -> Sample:
        return self.court.sample_at(self.source, Split.FIT, str(self.hookpoint))

    @property
    def test(self) -> Sample:
        return self.court.sample_at(self.source, Split.TEST, str(self.hookpoint))

    @property
    def model(self) -> Any:
        return self.court.model(self.source)

    @cached_property
    def mean(self) -> torch.Tensor:
        """float32 [d_in], the mean over TRAIN."""
        return self.court.mean(self.source, self.hookpoint)

    @cached_property
    def sae(self) -> SparseAutoencoder:
        return dictionary(self.court.folder, self.experiment, self.shown, self.number, self.fit)

    @property
    def trained(self) -> bool:
        """Whether the SAE is one that was trained, not made from such a one."""
        return self.shown in trained_arms(self.experiment)

    @property
    def origin(self) -> Origin:
        """How its training began; of a dictionary without one, its own rows and the training of the SAE it is made
        from."""
        home = self.court.folder.sae / (self.shown if self.trained else MAIN) / str(self.number)
        origin = Origin(**checkpoint.provenance(home).get("origin", {}))
        return origin if self.trained else origin._replace(init=checkpoint.digest(self.sae))

    @cached_property
    def fit_latents(self) -> torch.Tensor:
        """float32 [n, d_sae]"""
        return encode(self.sae, self.fit.x)

    @cached_property
    def test_latents(self) -> torch.Tensor:
        """float32 [k, d_sae]"""
        return encode(self.sae, self.test.x)

    @cached_property
    def alive(self) -> torch.Tensor:
        """bool [d_sae], by the registered rate on FIT."""
        return sparsity.alive_latents(self.fit_latents, self.protocol.alive_rate)

    @cached_property
    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """bool [n, F] on FIT and [k, F] on TEST, of the registered factors."""
        names = self.protocol.factors
        return factor_matrix(self.fit.labels, names), factor_matrix(self.test.labels, names)

    @cached_property
    def matched(self) -> Alignment:
        """The registered factors matched to latents, one to one on FIT."""
        fit_factors, test_factors = self.factors
        return align(self.fit_latents, fit_factors, self.test_latents, test_factors, self.alive)

    def release(self) -> None:
        """Let go of the latents, which are large and can be computed again."""
        for name in ("fit_latents", "test_latents"):
            self.__dict__.pop(name, None)

    def seed(self, use: str) -> int:
        """Of the null or resampling called `use`, for this arm and seed."""
        return stream_seed(self.experiment.seed, f"nulls/{use}/{self.arm}/{self.number}") % 2**32
