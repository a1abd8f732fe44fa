"""A reasoning benchmark as the task score: the model solves TEST problems as it is, through the SAE, and ablated."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from raysae.corpora import CORPORA
from raysae.falsification.metrics import answers
from raysae.models.capture import splice
from raysae.models.decoding import continue_greedily
from raysae.stages.capture import MAIN
from raysae.stages.court import Court, Examination
from raysae.stages.exhibits.base import Evidence, Exhibit, Plain
from raysae.stages.exhibits.fidelity import Edit, through
from raysae.stages.forward import token_batches
from raysae.store import records_of
from raysae.types import CorpusRecord, Metric, Split

NAME = "answer_accuracy"


class Problem(NamedTuple):
    """One TEST problem in tokens."""

    prompt: list[int]
    """Worked problems of TRAIN, if any are registered, and the question."""
    fits: bool
    """Whether the model can read it and write as much as is registered; else the problem counts as not solved."""
    told: list[int]
    """The question, the true steps and the true answer, as far as the model can read."""
    answer: tuple[int, ...]
    """Places of the answer's tokens in `told`; empty where it is cut off."""
    record: CorpusRecord


def _examine(exam: Examination) -> Plain | None:
    court = exam.court
    if not problems(court):
        return None
    found = _solved(court, exam.source, through(exam.sae))
    clean, ablated = _without_sae(court, exam.source)
    return {
        "clean": clean.right, "sae": found.right, "ablated": ablated.right, "written": clean.written,
        **{f"{name}_given_steps": one.given_steps for name, one in
           (("clean", clean), ("sae", found), ("ablated", ablated))},
        "fits": [float(one.fits) for one in problems(court)], "tokens": [1.0] * len(found.right),
    }  # fmt: skip


class Solved(NamedTuple):
    """1 or 0 per problem."""

    right: list[float]
    written: list[float]
    given_steps: list[float]


@lru_cache(maxsize=4)
def _without_sae(court: Court, source: str) -> tuple[Solved, Solved]:
    """The clean model, and with the hook point at its mean: what no SAE changes."""
    mean = court.mean(source, court.hookpoint)
    return _solved(court, source, lambda hidden: hidden), _solved(court, source, lambda hidden: mean.expand_as(hidden))


def _solved(court: Court, source: str, edit: Edit) -> Solved:
    model = court.model(source)
    asked, budget = problems(court), court.experiment.capture.batch_tokens
    limit = court.protocol.answer_tokens
    fit = [i for i, one in enumerate(asked) if one.fits]
    right, written, given = (np.zeros(len(asked)) for _ in range(3))
    with splice(model, court.hookpoint, edit):
        for batch in token_batches([len(asked[i].prompt) + limit for i in fit], budget):
            chosen = [fit[place] for place in batch]
            said = continue_greedily(model, [asked[i].prompt for i in chosen], limit, lambda ids: _ended(court, ids))
            for i, ids in zip(chosen, said, strict=True):
                answer = _read(asked[i].record, court.tokenizer.decode(ids, skip_special_tokens=True))
                written[i], right[i] = answer is not None, answer == asked[i].record.answer
        for batch in token_batches([len(one.told) for one in asked], budget):
            given[batch] = _likeliest(model, [asked[i] for i in batch])
    return Solved(right.tolist(), written.tolist(), given.tolist())


def _ended(court: Court, ids: list[int]) -> bool:
    """At the end of text, or of the line behind an answer."""
    if ids[-1] == court.tokenizer.eos_token_id:
        return True
    # Only a token with a line break in it can end the line, so little is decoded.
    if "\n" not in court.tokenizer.decode(ids[-1:]):
        return False
    return _read(problems(court)[0].record, court.tokenizer.decode(ids)) is not None


def _read(record: CorpusRecord, written: str) -> str | None:
    read = CORPORA[record.source_dataset].read_answer
    return read(written) if read else None


@torch.no_grad()
def _likeliest(model: Any, batch: Sequence[Problem]) -> list[float]:
    """Whether each token of the answer is the model's first choice behind the true text."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(one.told) for one in batch], batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(one.told), dtype=torch.int64) for one in batch], True)
    chosen = model(ids, attention_mask=mask, use_cache=False).logits.argmax(dim=-1)
    return [
        float(bool(one.answer) and all(int(chosen[row, at - 1]) == one.told[at] for at in one.answer))
        for row, one in enumerate(batch)
    ]


@lru_cache(maxsize=2)
def problems(court: Court) -> tuple[Problem, ...]:
    """The first TEST problems of a corpus that is a benchmark."""
    able = {name for name in court.experiment.corpus.names if name in CORPORA and CORPORA[name].read_answer}
    records = [record for record in court.records if record.source_dataset in able and record.step_spans]
    shown = "".join(f"{record.text}\n\n" for record in _worked(court, able))
    return tuple(_problem(court, record, shown) for record in records[: court.protocol.test_documents])


def _worked(court: Court, able: set[str]) -> list[CorpusRecord]:
    """TRAIN problems shown with their solution before each question, drawn once for the run."""
    count = court.protocol.answer_shots
    if not count:
        return []
    records = [record for record in records_of(court.folder.corpus, Split.TRAIN) if record.source_dataset in able]
    drawn = np.random.default_rng(court.seed(NAME)).permutation(len(records))[:count]
    return [records[i] for i in drawn]


def _problem(court: Court, record: CorpusRecord, shown: str) -> Problem:
    room = court.model(MAIN).config.max_position_embeddings
    question = record.text[: record.step_spans[0][0]]
    encoded = court.tokenizer(record.text, return_offsets_mapping=True)
    told, begins = encoded["input_ids"][:room], len(record.text) - len(record.answer)
    places = [at for at, (start, end) in enumerate(encoded["offset_mapping"]) if start < end and end > begins]
    prompt = _open(court, shown + question)
    return Problem(
        prompt=prompt,
        fits=len(prompt) + court.protocol.answer_tokens <= room,
        told=told,
        answer=tuple(places) if places and places[-1] < len(told) else (),
        record=record,
    )


def _open(court: Court, text: str) -> list[int]:
    """Ids of a text that goes on: what the tokenizer puts before it, and no end of text."""
    ids = court.tokenizer(text)["input_ids"]
    return ids[:-1] if ids[-1] == court.tokenizer.eos_token_id else ids


def _summarise(evidence: Evidence) -> Metric:
    columns = evidence.columns(NAME)
    return answers.summarise(columns, **evidence.bootstrap) if MAIN in columns else answers.nothing(evidence.seeds)


ANSWERS = Exhibit(_examine, _summarise, nulls=("random_dictionary", "frozen_decoder"))
