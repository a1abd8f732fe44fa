"""What the seeds of one arm have in common: whole dictionaries, stable primitives, clusters."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from raysae.falsification.metrics import clustering, primitives, stability
from raysae.falsification.metrics.dictionaries import Dictionary
from raysae.falsification.metrics.primitives import Primitives
from raysae.falsification.metrics.screening import Screen
from raysae.falsification.metrics.stability import Compared, Pairwise
from raysae.stages.capture import MAIN
from raysae.stages.court import Examination
from raysae.stages.exhibits.base import Comparison, Evidence, Plain
from raysae.stages.exhibits.geometry import NULLS, geometry
from raysae.stages.exhibits.screening import screen
from raysae.types import Gate, Metric
from raysae.types.experiment import stream_seed


@lru_cache(maxsize=1)
def _dictionaries(exams: tuple[Examination, ...]) -> list[Dictionary]:
    found = []
    for exam in exams:
        found.append(geometry(exam))
        exam.release()
    return found


@lru_cache(maxsize=1)
def _whole(exams: tuple[Examination, ...]) -> Plain:
    """Every pair of seeds, and whether the runs were independent."""
    seeds = _dictionaries(exams)
    pairs = stability.compare_all(seeds)
    return {
        "seeds": pairs.seeds,
        "pairs": [[i, j, pair._asdict()] for (i, j), pair in pairs.compared.items()],
        "gates": [gate.model_dump(mode="json") for gate in stability.independent(seeds, pairs)],
    }


def _pw_mcc(exams: Sequence[Examination]) -> Plain:
    return _whole(tuple(exams))


def _stability(exams: Sequence[Examination]) -> Plain:
    seeds = _dictionaries(tuple(exams))

    def test(members: np.ndarray) -> tuple[Screen, ...]:
        found = []
        for exam, one, column in zip(exams, seeds, members.T, strict=False):  # the seeds that select come first
            found.append(screen(exam, one.number[column[column >= 0]]))
            exam.release()
        return tuple(found)

    found = primitives.find(seeds, test)
    plain = {
        **found._asdict(),
        "members": found.members.tolist(),
        "r": found.r.tolist(),
        "of_select": found.of_select.tolist(),
    }
    return {"whole": _whole(tuple(exams)), "primitives": plain}


def _summarise_pw_mcc(evidence: Evidence) -> Metric:
    shown = evidence.across("pw_mcc")
    return stability.summarise({arm: _pairwise(plain) for arm, plain in shown.items()}, _gates(shown[MAIN]))


def _summarise_stability(evidence: Evidence) -> Metric:
    shown = evidence.across("stability")
    whole = shown[MAIN]["whole"]
    return primitives.summarise(
        {arm: _primitives(plain["primitives"]) for arm, plain in shown.items()},
        seeds=evidence.seeds,
        gates=_gates(whole),
        whole=stability.summarise({MAIN: _pairwise(whole)}).value,
        **evidence.bootstrap,
    )


def _pairwise(plain: dict[str, Any]) -> Pairwise:
    return Pairwise(plain["seeds"], {(i, j): Compared(**pair) for i, j, pair in plain["pairs"]})


def _gates(whole: dict[str, Any]) -> tuple[Gate, ...]:
    return tuple(Gate.model_validate(gate) for gate in whole["gates"])


def _primitives(plain: dict[str, Any]) -> Primitives:
    arrays = {name: np.array(plain[name]) for name in ("members", "r", "of_select")}
    return Primitives(**{**plain, **arrays})


def _clustering(exams: Sequence[Examination]) -> Plain:
    seed = stream_seed(exams[0].experiment.seed, "nulls/clustering") % 2**32
    seeds = _dictionaries(tuple(exams))
    found = clustering.compare([clustering.group(one.rows, seed) for one in seeds])
    gap = [clustering.gap_statistic(one.rows, seed) for one in seeds] if exams[0].arm == MAIN else []
    return {
        **found._asdict(),
        "by_centre": [[k, indices.tolist()] for k, indices in found.by_centre.items()],
        "by_density": found.by_density.tolist(),
        "gap": gap,
    }


def _summarise_clustering(evidence: Evidence) -> Metric:
    shown = evidence.across("clustering")
    arms = {
        arm: clustering.Agreement(
            {k: np.array(indices) for k, indices in plain["by_centre"]},
            np.array(plain["by_density"]),
            tuple(plain["clusters"]),
            tuple(plain["noise"]),
        )
        for arm, plain in shown.items()
    }
    return clustering.summarise(arms, gap=shown[MAIN]["gap"])


PW_MCC = Comparison(_pw_mcc, _summarise_pw_mcc, nulls=NULLS)
STABILITY = Comparison(_stability, _summarise_stability)
CLUSTERING = Comparison(_clustering, _summarise_clustering, nulls=NULLS)
