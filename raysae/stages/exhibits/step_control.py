"""Step-level control on a world whose step types are known token by token."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from raysae.falsification.metrics import step_control
from raysae.falsification.metrics.step_control import OUTCOMES, Control, Sums
from raysae.models.capture import resume
from raysae.models.patch import residual_step
from raysae.stages.capture import MAIN
from raysae.stages.court import Court, Examination
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.exhibits.pairs import locate
from raysae.stages.exhibits.pushing import block_output
from raysae.stages.forward import token_batches
from raysae.stages.ingest import READINGS
from raysae.stages.measure import Sample
from raysae.types import Metric, Split

NAME = "step_control"
STEP_TYPE = "step_type"
NO_WORLD = "The corpus is no world whose step types, answers and slips are known."
NO_LATENT = "No step type has a latent of its own in every seed."


class Places(NamedTuple):
    """Where the texts of a sample show an outcome, rows are places; int64."""

    document: torch.Tensor
    at: torch.Tensor
    """Position before the word that must be predicted."""
    word: torch.Tensor
    against: torch.Tensor
    """For detection the word that passes the error over; else the same as `word`."""


def _examine(exam: Examination) -> Plain | None:
    court = exam.court
    if not _readable(court):
        return None
    types = _step_types(exam.fit)
    chosen = step_control.choose(exam.fit_latents, types, exam.alive)
    read = Along(court, exam.source)
    found = step_control.measure(
        read,
        exam.test_latents,
        exam.sae.W_dec.detach(),
        {name: _step_types(exam.test)[name] for name in types},
        chosen,
        exam.alive.numpy(),
        exam.protocol.permutations,
        exam.seed(NAME),
    )
    return {"control": _plain(found._asdict()), "counts": _plain(read.counts)}


def _readable(court: Court) -> bool:
    names = court.experiment.corpus.names
    return len(names) == 1 and names[0] in READINGS


def _step_types(sample: Sample) -> dict[str, np.ndarray]:
    """Step type -> bool [n], those that occur in the sample."""
    values = sample.labels[STEP_TYPE]
    return {name: values == name for name in sorted({value for value in values if value is not None})}


class Along:
    """A `step_control.Read`: the model from the hook point's block on, over every TEST text of the sample at once."""

    def __init__(self, court: Court, source: str) -> None:
        self.model, self.hookpoint = court.model(source), court.hookpoint
        self.hidden = block_output(court, source, Split.TEST, self.hookpoint.layer)
        self.lengths = np.bincount(court.sample(source, Split.TEST).document.numpy())
        self.starts = torch.from_numpy(np.concatenate([[0], np.cumsum(self.lengths)[:-1]]))
        self.batches = list(token_batches(self.lengths.tolist(), court.experiment.capture.batch_tokens))
        self.places = _places(court, source)
        ones = {name: torch.ones(len(places.at), dtype=torch.float64) for name, places in self.places.items()}
        self.counts: Sums = {name: self._by_document(name, values) for name, values in ones.items()}
        self.counts["steps"] = (self.counts["steps"] > 0).astype(np.float64)  # the sum is a number of steps per text

    @torch.no_grad()
    def __call__(self, delta: torch.Tensor) -> Sums:
        edited = (self.hidden + residual_step(self.model, self.hookpoint, delta)).to(self.hidden.dtype)
        out = {name: torch.zeros(len(places.at), dtype=torch.float64) for name, places in self.places.items()}
        for batch in self.batches:
            texts, longest = torch.tensor(batch), int(self.lengths[batch].max())
            span = torch.arange(longest)
            inside = span < torch.from_numpy(self.lengths[batch])[:, None]
            rows = edited[(self.starts[texts][:, None] + span).clamp_max(len(edited) - 1)]
            with resume(self.model, self.hookpoint.layer, rows):
                ids = torch.zeros(len(batch), longest, dtype=torch.int64)
                logits = self.model(ids, attention_mask=inside.long(), use_cache=False).logits
            log_p = logits.float().log_softmax(dim=-1)
            row_of = torch.full((len(self.lengths),), -1)
            row_of[texts] = torch.arange(len(texts))
            for name, places in self.places.items():
                here = torch.nonzero(row_of[places.document] >= 0)[:, 0]
                row, at = row_of[places.document[here]], places.at[here]
                said = log_p[row, at, places.word[here]].double()
                if name == "steps":
                    said = 1 - said.exp()
                if name == "detection":
                    said = said - log_p[row, at, places.against[here]].double()
                out[name][here] = said
        return {name: self._by_document(name, values) for name, values in out.items()}

    def _by_document(self, name: str, values: torch.Tensor) -> np.ndarray:
        document = self.places[name].document
        return torch.bincount(document, weights=values, minlength=len(self.lengths)).numpy()


@lru_cache(maxsize=4)
def _places(court: Court, source: str) -> dict[str, Places]:
    """The readings of the world, in tokens; of a text that was cut off, those that are left."""
    (name,) = court.experiment.corpus.names
    sample, records = court.sample(source, Split.TEST), {record.record_id: record for record in court.records}
    lengths = np.bincount(sample.document.numpy())
    found: dict[str, list[tuple[int, int, int, int]]] = {outcome: [] for outcome in OUTCOMES}
    for document, record_id in enumerate(sample.records):
        record = records[record_id]
        readings = READINGS[name](record)
        if readings is None:
            continue
        chars = (readings.answer, readings.close, *readings.ends, *(one.char for one in readings.detections))
        ids, places = locate(court.tokenizer, record.text, chars)
        answer, close, *others = places
        found["answer"].append((document, answer - 1, ids[answer], ids[answer]))
        found["steps"] += [(document, at - 1, ids[close], ids[close]) for at in others[: len(readings.ends)]]
        for (char, *words), at in zip(readings.detections, others[len(readings.ends) :], strict=True):
            right, wrong = (locate(court.tokenizer, record.text[:char] + word, ())[0][at] for word in words)
            if right != wrong:  # else the words part only behind their first token
                found["detection"].append((document, at - 1, right, wrong))
    return {outcome: _kept(rows, lengths) for outcome, rows in found.items()}


def _kept(rows: list[tuple[int, int, int, int]], lengths: np.ndarray) -> Places:
    """Those within what the model read of the text."""
    kept = [row for row in rows if row[1] + 1 < lengths[row[0]]]
    return Places(*torch.tensor(kept, dtype=torch.int64).reshape(-1, 4).T)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def _revive(plain: Plain) -> Control:
    def arrays(sums: Plain) -> Sums:
        return {name: np.asarray(column) for name, column in sums.items()}

    return Control(
        latents=plain["latents"],
        clean=arrays(plain["clean"]),
        effects={
            step: {edit: arrays(sums) for edit, sums in edits.items()} for step, edits in plain["effects"].items()
        },
        nulls=plain["nulls"],
        single={
            step: {int(latent): effect for latent, effect in effects.items()}
            for step, effects in plain["single"].items()
        },
        others=plain["others"],
        sets=plain["sets"],
    )


def _shown(evidence: Evidence) -> tuple[Sequence[Control], Sums] | None:
    shown = evidence.of(NAME).get(MAIN)
    if not shown:
        return None
    counts = {name: np.asarray(column) for name, column in shown[0]["counts"].items()}
    return [_revive(one["control"]) for one in shown], counts


def _summarise(evidence: Evidence) -> Metric:
    shown = _shown(evidence)
    if shown is None:
        return step_control.nothing(evidence.seeds, NO_WORLD)
    if not step_control.types(shown[0]):
        return step_control.nothing(evidence.seeds, NO_LATENT)
    return step_control.summarise(*shown, **evidence.bootstrap)


def rows(evidence: Evidence) -> Plain | None:
    """What `metrics/step_control.json` holds; None where nothing was measured."""
    shown = _shown(evidence)
    if shown is None or not step_control.types(shown[0]):
        return None
    seeds, counts = shown
    return {
        "rows": step_control.rows(seeds, counts, **evidence.bootstrap),
        "matrix": step_control.matrix(seeds[0], counts),
    }


STEP_CONTROL = Exhibit(_examine, _summarise)
