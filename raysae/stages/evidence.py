"""What one SAE shows on TEST: the worker of `evaluate`. Unit of work: one (arm, seed); its output is plain numbers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysae.falsification.metrics import alignment, fidelity, sparsity
from raysae.models.capture import splice
from raysae.models.load import load_model, load_tokenizer, random_twin
from raysae.saes import SparseAutoencoder, checkpoint, random_dictionary
from raysae.stages.capture import MAIN, TWIN, token_batches, twin_seed
from raysae.stages.contexts import top_contexts
from raysae.stages.ingest import WORLDS
from raysae.stages.interchange import Interchange, tokenize_pairs
from raysae.stages.measure import Sample, document_columns, encode, factor_matrix, read_sample
from raysae.stages.seal import pair_seed, test_records
from raysae.store import ActivationStore, RunFolder, TokenStore, write_block
from raysae.types import Experiment, HookPoint, Split
from raysae.types.experiment import stream_seed

RANDOM_DICTIONARY = "random_dictionary"
PERMUTED = "permuted_labels"
DENSEST = 0.4
"""Largest share of its latents that a random dictionary is asked to fire."""
_DRAWS = ("matched_latents", PERMUTED)
ALIGNMENT_DRAWS = 20
"""Label permutations of alignment, at most: each costs a matching."""


@dataclass(frozen=True)
class EvidenceJob:
    """What every unit of work shares."""

    experiment: Experiment
    criteria: tuple[str, ...]
    factors: tuple[str, ...]
    causal_units: tuple[str, ...]
    fingerprint: str


class Examiner:
    """(arm, seed) -> `metrics/<arm>-<seed>.evidence.json`."""

    def __init__(self, job: EvidenceJob) -> None:
        torch.set_num_threads(1)
        self.job = job
        self.experiment = job.experiment
        self.folder = RunFolder(job.experiment)
        self.tokens = TokenStore(self.folder.tokens)
        self.hookpoint: HookPoint = job.experiment.hookpoint
        self._models: dict[str, Any] = {}

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        arm, number = item["arm"], item["seed"]
        source = TWIN if arm == TWIN else MAIN
        store = ActivationStore(self.folder.activations / source, splits=tuple(Split))
        limit = self.experiment.protocol.test_tokens
        fit, test = (read_sample(store, self.tokens, split, self.hookpoint, limit) for split in (Split.FIT, Split.TEST))
        sae = checkpoint.load(self.folder.sae / source / str(number))
        latents = encode(sae, fit.x)
        alive = sparsity.alive_latents(latents, self.experiment.protocol.alive_rate)
        if arm == RANDOM_DICTIONARY:
            seed = stream_seed(self.experiment.seed, f"nulls/random_dictionary/{number}")
            l0 = float((latents != 0).sum(dim=1).double().mean())
            width = max(int(alive.sum()), 1)
            # A random direction is positive on half of the tokens. A code denser than that, far beyond the L0 cap and
            # so VOID whatever its null says, is met at the densest a random dictionary can be.
            sae = random_dictionary(sae, min(l0, DENSEST * width), fit.x, seed, d_sae=width)
            latents = encode(sae, fit.x)
            alive = sparsity.alive_latents(latents, self.experiment.protocol.alive_rate)
        found = self._evidence(arm, number, store, sae, fit, test, latents, alive)
        text = json.dumps(found, allow_nan=True)
        info = write_block(
            self.folder.metrics,
            f"{arm}-{number}",
            ".evidence.json",
            self.job.fingerprint,
            1,
            lambda path: _write(path, text),
        )
        return {"block": info.model_dump(mode="json"), "text": f"{arm}/{number}: l0 {_l0(found):.1f}"}

    def _evidence(
        self,
        arm: str,
        number: int,
        store: ActivationStore,
        sae: SparseAutoencoder,
        fit: Sample,
        test: Sample,
        latents: Any,
        alive: Any,
    ) -> dict[str, Any]:
        criteria = self.job.criteria
        test_latents = encode(sae, test.x)
        mean = torch.from_numpy(store.mean(self.hookpoint)).float()
        found: dict[str, Any] = {"arm": arm, "seed": number, "alive": int(alive.sum())}
        for name, columns in document_columns(sae, test, test_latents, alive, mean).items():
            found[name] = {key: values.tolist() for key, values in columns.items()}
        if "fidelity" in criteria:
            found["fidelity"] = {key: values.tolist() for key, values in self._fidelity(arm, sae, mean).items()}
        if "alignment" in criteria and self.job.factors:
            found |= self._alignment(arm, number, fit, test, latents, test_latents, alive)
        if "causal_interchange" in criteria and self.job.causal_units and arm != RANDOM_DICTIONARY:
            found |= self._causal(arm, number, sae, fit, latents, alive)
        if arm == MAIN:
            found["contexts"] = top_contexts(
                test, test_latents, alive, found.get("alignment"), self.job.factors, self._tokenizer()
            )
        return found

    def _model(self, arm: str) -> Any:
        source = TWIN if arm == TWIN else MAIN
        if source not in self._models:
            config = self.experiment.model
            self._models[source] = (
                load_model(config) if source == MAIN else random_twin(config, twin_seed(self.experiment))
            )
        return self._models[source]

    def _tokenizer(self) -> Any:
        return load_tokenizer(self.experiment.model, self.experiment.tokenizer)

    @torch.no_grad()
    def _fidelity(self, arm: str, sae: SparseAutoencoder, mean: torch.Tensor) -> dict[str, np.ndarray]:
        """Nats per TEST document: clean, through the SAE, with mean and zero ablation; KL to the clean prediction."""
        documents = [ids for block in self.tokens.blocks(Split.TEST) for _, ids, _ in self.tokens.documents(block)]
        documents = documents[: self.experiment.protocol.test_documents]
        model, count = self._model(arm), len(documents)

        def through(hidden: torch.Tensor) -> torch.Tensor:
            return sae(hidden.flatten(0, 1).float()).reconstruction.view_as(hidden)

        edits: dict[str, Any] = {
            "sae": through,
            "ablated": lambda hidden: mean.expand_as(hidden),
            "zero_ablated": torch.zeros_like,
        }
        totals = {name: np.zeros(count) for name in ("clean", *edits, "kl", "tokens")}
        for batch in token_batches([len(ids) for ids in documents], self.experiment.capture.batch_tokens):
            longest = max(len(documents[i]) for i in batch)
            ids = torch.zeros((len(batch), longest), dtype=torch.int64)
            mask = torch.zeros((len(batch), longest), dtype=torch.bool)
            for row, i in enumerate(batch):
                ids[row, : len(documents[i])] = torch.from_numpy(documents[i].astype(np.int64))
                mask[row, : len(documents[i])] = True
            document = torch.tensor(batch)
            clean = model(ids, attention_mask=mask.long(), use_cache=False).logits
            totals["clean"] += fidelity.cross_entropy(clean, ids, mask, document, count)
            totals["tokens"] += fidelity.predicted_tokens(mask, document, count)
            for name, edit in edits.items():
                with splice(model, self.hookpoint, edit):
                    logits = model(ids, attention_mask=mask.long(), use_cache=False).logits
                totals[name] += fidelity.cross_entropy(logits, ids, mask, document, count)
                if name == "sae":
                    totals["kl"] += fidelity.kl_divergence(clean, logits, mask, document, count)
        return totals

    def _alignment(
        self, arm: str, number: int, fit: Sample, test: Sample, latents: Any, test_latents: Any, alive: Any
    ) -> dict[str, Any]:
        names = self.job.factors
        fit_factors, test_factors = factor_matrix(fit.labels, names), factor_matrix(test.labels, names)
        found: dict[str, Any] = {
            "alignment": _plain(alignment.align(latents, fit_factors, test_latents, test_factors, alive))
        }
        if arm == MAIN and PERMUTED in self.experiment.protocol.nulls:
            draws = alignment.align_permuted(
                latents, fit_factors, fit.document.numpy(), test_latents, test_factors, test.document.numpy(),
                draws=min(ALIGNMENT_DRAWS, self.experiment.protocol.permutations),
                seed=stream_seed(self.experiment.seed, f"nulls/permuted/{number}") % 2**32, alive=alive,
            )  # fmt: skip
            found["permuted"] = [_plain(draw) for draw in draws]
        return found

    def _causal(
        self, arm: str, number: int, sae: SparseAutoencoder, fit: Sample, latents: Any, alive: Any
    ) -> dict[str, Any]:
        """Units of every registered variable, and for the real arm those of latents chosen on permuted labels."""
        records = test_records(self.folder)
        by_id = {record.record_id: record for record in records}
        tokenizer, config = self._tokenizer(), self.experiment.protocol
        judge = Interchange(self._model(arm), self.hookpoint, sae, fit, latents, alive)
        registered: dict[str, list[str]] = {}
        for variable, _, value in (unit.partition("=") for unit in self.job.causal_units):
            registered.setdefault(variable, []).append(value)
        permuted = arm == MAIN and PERMUTED in config.nulls
        found: dict[str, Any] = {"units": [], **({"permuted_units": []} if permuted else {})}
        for world in (WORLDS[name] for name in self.experiment.corpus.names if name in WORLDS):
            for variable, values in registered.items():
                seed = pair_seed(self.experiment)
                drawn = [world.interchange_pairs(records, variable, value, config.pairs, seed) for value in values]
                pairs = tokenize_pairs(tokenizer, [pair for some in drawn for pair in some], by_id)
                names = world.VARIABLES[variable]
                how: dict[str, Any] = {"per_value": config.latents_per_value, "draws": config.permutations}
                seeds = [
                    stream_seed(self.experiment.seed, f"nulls/{null}/{number}/{variable}") % 2**32 for null in _DRAWS
                ]
                units = judge.units(pairs, names, seed=seeds[0], **how)
                found["units"] += [unit._asdict() for unit in units]
                if permuted:
                    null = judge.units(pairs, names, seed=seeds[1], real=units, **how)
                    found["permuted_units"] += [unit._asdict() for unit in null]
        return found


def _plain(found: alignment.Alignment) -> dict[str, list[float]]:
    return {name: np.asarray(values).tolist() for name, values in found._asdict().items()}


def revive_alignment(plain: dict[str, list[float]]) -> alignment.Alignment:
    """The inverse of what the evidence file holds."""
    return alignment.Alignment(**{name: np.asarray(values) for name, values in plain.items()})


def _l0(found: dict[str, Any]) -> float:
    columns = found["reconstruction"]
    return sum(columns["l0"]) / sum(columns["tokens"])


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
