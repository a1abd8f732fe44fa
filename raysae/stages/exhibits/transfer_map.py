"""The transfer map: latents at every hook point that has SAEs, of this run and of one on another model, held against
each other word by word on the TEST texts that both read."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from raysae.corpora.encoding import Encoder
from raysae.errors import Refused
from raysae.falsification.metrics import sparsity, transfer_map
from raysae.falsification.metrics.codes import Code, pooled, sparse_code
from raysae.falsification.metrics.transfer_map import SEEDS, Cell
from raysae.models.load import tokenizer_definition
from raysae.stages.capture import MAIN
from raysae.stages.court import Court, Examination
from raysae.stages.dictionaries import elsewhere, floor
from raysae.stages.exhibits.base import Comparison, Evidence, Plain
from raysae.stages.measure import encode
from raysae.stages.other_model import other_experiment
from raysae.types import Metric, Split

NAME = "transfer_map"
FLOORS = ("random_dictionary", "pca")
"""Made on the spot at every place; a frozen decoder would have to be trained at each."""
ROWS = 8192


@dataclass(frozen=True)
class Place:
    """A hook point of a model, [words, latents] for the first seeds."""

    name: str
    codes: list[Code]
    floors: dict[str, list[Code]]


def _examine(exams: Sequence[Examination]) -> Plain:
    court = exams[0].court
    other = other_experiment(court.experiment)
    courts = [court, *([Court(other)] if other else [])]
    shared = _shared_records(courts)
    own = _places(court, shared, "")
    others = _places(courts[1], shared, f"{courts[1].experiment.name} ") if other else []
    within = {place.name: transfer_map.matrix(place.codes, place.codes) for place in own}
    cells = [
        Cell(
            a.name,
            b.name,
            within[b.name] if a is b else transfer_map.matrix(a.codes, b.codes),
            within[b.name],
            {name: transfer_map.matrix(codes, b.codes) for name, codes in a.floors.items()},
            foreign,
        )
        for b in own
        for a, foreign in (*((place, False) for place in own), *((place, True) for place in others))
    ]
    return {"cells": [_plain(cell) for cell in cells]}


def _shared_records(courts: Sequence[Court]) -> dict[str, str]:
    """TEST record -> its text, of those that every court has read whole."""
    read = [_whole_records(court) for court in courts]
    first = read[0]
    for other in read[1:]:
        if changed := [name for name in first.keys() & other.keys() if first[name] != other[name]]:
            raise Refused(f"record {changed[0]} is another text in the run of protocol.map_from")
    return {name: text for name, text in first.items() if all(name in other for other in read)}


def _whole_records(court: Court) -> dict[str, str]:
    texts = {record.record_id: record.text for record in court.records}
    sample = court.sample(MAIN, Split.TEST)
    encoded = _encoder(court).encode([texts[name] for name in sample.records])
    lengths = np.bincount(sample.document.numpy(), minlength=sample.documents)
    whole = np.diff(encoded.starts) == lengths
    return {name: texts[name] for name, kept in zip(sample.records, whole, strict=True) if kept}


def _encoder(court: Court) -> Encoder:
    return Encoder(tokenizer_definition(court.tokenizer), court.tokenizer.eos_token_id)


def words(court: Court, texts: dict[str, str]) -> tuple[np.ndarray, int]:
    """(word of each token of the TEST sample, number of words): words are what white space divides, counted through
    `texts` in their order; -1 for a token on no word or of another text."""
    sample = court.sample(MAIN, Split.TEST)
    encoded = _encoder(court).encode(list(texts.values()))
    joined = np.array(list("".join(texts.values())))
    space = np.char.isspace(joined)
    edge = np.append(True, space[:-1])
    edge[encoded.characters[:-1]] = True  # a text begins anew whatever the one before ends with
    begins = ~space & edge
    word_of = np.cumsum(begins) - 1
    at = np.minimum(encoded.begin, len(joined) - 1)
    of_token = np.where((encoded.end > encoded.begin) & ~space[at], word_of[at], -1)
    found = np.full(len(sample.token_id), -1)
    place = {name: i for i, name in enumerate(texts)}
    starts = np.searchsorted(sample.document.numpy(), np.arange(sample.documents))
    for start, name in zip(starts, sample.records, strict=True):
        if name in place:
            first, last = encoded.starts[place[name]], encoded.starts[place[name] + 1]
            found[start : start + last - first] = of_token[first:last]
    return found, int(begins.sum())


def _places(court: Court, texts: dict[str, str], prefix: str) -> list[Place]:
    word, count = words(court, texts)
    found = []
    points = {arm: court.experiment.arm(arm).hookpoint for arm in (MAIN, *elsewhere(court.experiment))}
    for arm in sorted(points, key=lambda arm: (points[arm].layer, str(points[arm]))):
        codes: list[Code] = []
        floors: dict[str, list[Code]] = {name: [] for name in FLOORS}
        for number in islice(court.experiment.train.seed_numbers, SEEDS):
            exam = court.examine(arm, number)
            codes.append(pooled(sparse_code(exam.test_latents.split(ROWS), exam.alive), word, count))
            for name in FLOORS:
                null = floor(court.experiment, name, number, exam.sae, exam.alive, exam.fit_latents, exam.fit.x)
                alive = sparsity.alive_latents(encode(null, exam.fit.x), court.protocol.alive_rate)
                code = sparse_code(encode(null, exam.test.x).split(ROWS), alive)
                floors[name].append(pooled(code, word, count))
            exam.release()
        found.append(Place(f"{prefix}{points[arm]}", codes, floors))
    return found


def _plain(cell: Cell) -> Plain:
    def listed(matrix: np.ndarray) -> list[list[float]]:
        return np.nan_to_num(matrix).tolist()

    floors = {name: listed(matrix) for name, matrix in cell.floors.items()}
    matrices = {"across": listed(cell.across), "within": listed(cell.within), "floors": floors}
    return {"a": cell.a, "b": cell.b, **matrices, "foreign": cell.foreign}


def _revive(plain: Plain) -> Cell:
    def read(matrix: Any) -> np.ndarray:
        found = np.array(matrix, dtype=np.float64)
        found[np.eye(len(found), dtype=bool)] = np.nan
        return found

    floors = {name: read(matrix) for name, matrix in plain["floors"].items()}
    return Cell(plain["a"], plain["b"], read(plain["across"]), read(plain["within"]), floors, plain["foreign"])


def _cells(evidence: Evidence) -> list[Cell]:
    return [_revive(cell) for cell in evidence.across(NAME)[MAIN]["cells"]]


def _summarise(evidence: Evidence) -> Metric:
    return transfer_map.summarise(_cells(evidence))[0]


def rows(evidence: Evidence) -> list[Plain]:
    """What `metrics/transfer_map.json` holds."""
    return transfer_map.summarise(_cells(evidence))[1]


TRANSFER_MAP = Comparison(_examine, _summarise)
