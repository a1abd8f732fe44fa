"""Which record is what: plain documents, and the sets of TEST that try a label's shortcuts and its cause."""

import random
from collections.abc import Iterator
from dataclasses import replace

from raysae.types import CorpusRecord, Split
from raysae.types.experiment import stream_seed
from raysae.worlds.controlled_cot import story
from raysae.worlds.controlled_cot.programs import Problem, draw_problem
from raysae.worlds.controlled_cot.rendering import (
    NAME,
    Worded,
    draw_manner,
    word_step,
    write_record,
    write_text,
)
from raysae.worlds.controlled_cot.templates import FAMILIES
from raysae.worlds.controlled_cot.traces import draw_trace, may_slip, operate, parse, report, wrong_result
from raysae.worlds.controlled_cot.words import (
    ALLOWED_CUES,
    CUES_OF,
    FAILS,
    OPERATE,
    STEP_TYPES,
    TRAINED,
    UNSEEN,
    VERIFY,
    Dialect,
)

SLIPS = 0.3
"""Share of documents in which one result is stated wrong, and found to be."""
TEST = str(Split.TEST)

CYCLE = (
    *(("PLAIN",) * 12),
    *(("UNSEEN",) * 2),
    *(("CUE",) * 2),
    *(("PAIR",) * 4),
    *("ORIGINAL", "CUE_FREE", "PARAPHRASE", "INJECTION"),
    *("CLEAN", "CORRUPTED"),
)
"""What 26 records in a row are:

PLAIN       families and dialect that are trained on; divided by a hash of the problem, so TRAIN, FIT and, in TEST, SEEN
UNSEEN      other families, other names, things and numerals
CUE         every cue is one that the step's own type does not allow and another type does: `cue_label`
PAIR        two neighbours with one question, alike but for what was worked out before: `12 plus 7 is 19` is OPERATE in
            the one and VERIFY in the other, at the same place of a document of the same length
ORIGINAL, CUE_FREE, PARAPHRASE  one trace three times: as it is, without cues, in unseen families
INJECTION   a story that reasons about nothing, with a cue before every sentence
CLEAN, CORRUPTED  one trace twice, in the second a result is stated wrong, and the verification after it says so
"""


def generate(count: int, seed: int, start: int = 0) -> Iterator[CorpusRecord]:
    """Records `start` to `start + count - 1`; record i depends on (seed, i) alone."""
    for i in range(start, start + count):
        round_, place = divmod(i, len(CYCLE))
        yield _MAKERS[CYCLE[place]](i, round_, place, seed)


def mixed(count: int, seed: int) -> Iterator[str]:
    """Texts to train a language model on: every family with any names and numerals, one in twenty a story. The model
    has to know all that UNSEEN is made of; it is SAEs and probes that have not seen it."""
    for i in range(count):
        rng = random.Random(stream_seed(seed, f"{NAME}.mixed.{i}"))
        if rng.random() < 0.05:
            yield story.text(rng, cued=False)
            continue
        dialect = Dialect(*(rng.choice(words) for words in zip(TRAINED, UNSEEN, strict=True)))
        problem = draw_problem(rng, dialect)
        families = [*FAMILIES["TRAINED"], *FAMILIES["UNSEEN"]]
        yield write_text(problem, _worded(rng, problem, families, dialect), dialect)


def _rng(seed: int, round_: int, name: str) -> random.Random:
    return random.Random(stream_seed(seed, f"{NAME}.{name}.{round_}"))


def _worded(
    rng: random.Random,
    problem: Problem,
    families: list[tuple[int, int]] | tuple[tuple[int, int], ...],
    dialect: Dialect,
) -> list[Worded]:
    slip = rng.choice(may_slip(problem)) if rng.random() < SLIPS else None
    steps = draw_trace(problem, rng, slip)
    return [word_step(step, draw_manner(rng, step.kind, families), dialect) for step in steps]


def _plain(i: int, round_: int, place: int, seed: int) -> CorpusRecord:
    rng = _rng(seed, round_, f"plain.{place}")
    problem = draw_problem(rng, TRAINED, reserved=False)
    return write_record(i, problem, _worded(rng, problem, FAMILIES["TRAINED"], TRAINED), TRAINED, set="PLAIN")


def _unseen(i: int, round_: int, place: int, seed: int) -> CorpusRecord:
    rng = _rng(seed, round_, f"unseen.{place}")
    problem = draw_problem(rng, UNSEEN)
    worded = _worded(rng, problem, FAMILIES["UNSEEN"], UNSEEN)
    return write_record(i, problem, worded, UNSEEN, native=TEST, set="UNSEEN")


def _cue(i: int, round_: int, place: int, seed: int) -> CorpusRecord:
    rng = _rng(seed, round_, f"cue.{place}")
    problem = draw_problem(rng, TRAINED, reserved=True)
    worded, suggested = [], []
    for step in draw_trace(problem, rng):
        other = rng.choice([kind for kind in STEP_TYPES if kind != step.kind])
        cues = [cue for cue, kinds in ALLOWED_CUES.items() if other in kinds and step.kind not in kinds]
        worded.append(word_step(step, draw_manner(rng, step.kind, FAMILIES["TRAINED"], cues), TRAINED))
        suggested.append(other)
    return write_record(i, problem, worded, TRAINED, cues=suggested, native=TEST, set="CUE")


def _pair(i: int, round_: int, place: int, seed: int) -> CorpusRecord:
    number, second = divmod(CYCLE[:place].count("PAIR"), 2)
    rng = _rng(seed, round_, f"pair.{number}")
    problem = draw_problem(rng, TRAINED, reserved=True, shape="tree")
    one, other = rng.sample((0, 1), 2)
    given = [parse(fact) for op in problem.ops[:2] for fact in op.reads]
    before, between = rng.sample(given, rng.randint(0, 2)), rng.sample(given, rng.randint(0, 2))
    members = {
        VERIFY: [operate(problem, one), *between, operate(problem, one, VERIFY), operate(problem, other)],
        OPERATE: [operate(problem, other), *between, operate(problem, one), operate(problem, other, VERIFY)],
    }
    members = {kind: [*before, *steps, operate(problem, 2), report(problem, 2)] for kind, steps in members.items()}
    # Both in the same families, lengths and cues: such as the types that stand there allow.
    manners = []
    for kinds in zip(*((step.kind for step in steps) for steps in members.values()), strict=True):
        manner = draw_manner(rng, OPERATE, FAMILIES["TRAINED"])
        cues = [cue for cue, allowed in ALLOWED_CUES.items() if set(kinds) <= set(allowed)]
        manners.append(replace(manner, cue=rng.choice(cues) if manner.cue else ""))
    # Which member comes first is a matter of chance, so that labels cannot be read off the order.
    kind = VERIFY if bool(second) == (rng.random() < 0.5) else OPERATE
    worded = [word_step(step, manner, TRAINED) for step, manner in zip(members[kind], manners, strict=True)]
    at = len(before) + 1 + len(between)
    group = f"{round_}.{number}"
    return write_record(i, problem, worded, TRAINED, judged=(at,), native=TEST, set="PAIR", group=group)


def _rendering(i: int, round_: int, place: int, seed: int) -> CorpusRecord:
    rng, name = _rng(seed, round_, "rendering"), CYCLE[place]
    problem = draw_problem(rng, TRAINED, reserved=True)
    steps = draw_trace(problem, rng)
    cued = [draw_manner(rng, step.kind, FAMILIES["TRAINED"], CUES_OF[step.kind]) for step in steps]
    other = [draw_manner(rng, step.kind, FAMILIES["UNSEEN"]) for step in steps]
    manners = {
        "ORIGINAL": cued,
        "CUE_FREE": [replace(manner, cue="") for manner in cued],
        "PARAPHRASE": [
            replace(manner, core=new.core, frame=new.frame) for manner, new in zip(cued, other, strict=True)
        ],
    }[name]
    worded = [word_step(step, manner, TRAINED) for step, manner in zip(steps, manners, strict=True)]
    every = range(len(steps))
    return write_record(i, problem, worded, TRAINED, judged=every, native=TEST, set=name, group=str(round_))


def _injection(i: int, round_: int, place: int, seed: int) -> CorpusRecord:
    return story.record(i, _rng(seed, round_, "injection"))


def _twin(i: int, round_: int, place: int, seed: int) -> CorpusRecord:
    rng, name = _rng(seed, round_, "twin"), CYCLE[place]
    while True:
        problem = draw_problem(rng, TRAINED, reserved=True)
        slip = rng.choice(may_slip(problem))
        steps = draw_trace(problem, rng)
        first = next(i for i, step in enumerate(steps) if step.kind == OPERATE and step.number == slip)
        checked = [j for j, step in enumerate(steps) if step.kind == VERIFY and step.number == slip]
        used = [j for j, step in enumerate(steps) if step.op and (slip in step.op.needs or step.kind == "FORMAT")]
        if checked and checked[0] < min((j for j in used if j > first), default=len(steps)):
            break
    (wrong,) = wrong_result(problem, rng, slip).values()
    manners = [draw_manner(rng, step.kind, FAMILIES["TRAINED"]) for step in steps]
    told = list(steps)
    if name == "CORRUPTED":
        told[first] = replace(steps[first], stated=wrong, wrong=True)
        told = [replace(step, verdict=FAILS) if j in checked else step for j, step in enumerate(told)]
    worded = [word_step(step, manner, TRAINED) for step, manner in zip(told, manners, strict=True)]
    return write_record(i, problem, worded, TRAINED, judged=checked[:1], native=TEST, set=name, group=str(round_))


_MAKERS = {
    "PLAIN": _plain,
    "UNSEEN": _unseen,
    "CUE": _cue,
    "PAIR": _pair,
    **dict.fromkeys(("ORIGINAL", "CUE_FREE", "PARAPHRASE"), _rendering),
    "INJECTION": _injection,
    **dict.fromkeys(("CLEAN", "CORRUPTED"), _twin),
}
