"""OpenR1-Math-220k: competition problems with traces of DeepSeek-R1. Apache-2.0.

The trace taken is the first that is complete and judged right, by the symbolic check or by the model judge
(`extras.verified_by` says which: two standards). `text` = problem, then the trace as it is, `<think>` and all; the
steps are the paragraphs inside it. Traces run to 16 thousand tokens: what `tokenizer.ctx_len` cuts off is counted.
"""

from raysae.corpora.assemble import NativeRow, Text, by_row, paragraphs, reasoned
from raysae.corpora.base import Corpus, Files, Source
from raysae.types import CorpusRecord, Split

LICENCE = "Apache-2.0"
_OPEN, _CLOSE = "<think>", "</think>"


class Row(NativeRow):
    problem: Text
    solution: str | None
    answer: str
    problem_type: str | None
    question_type: str | None
    source: str | None
    uuid: str | None
    generations: list[str]
    is_reasoning_complete: list[bool | None]
    correctness_math_verify: list[bool | None] | None
    correctness_llama: list[bool | None] | None


def build(row: Row, source: Source, line: int) -> CorpusRecord | str:
    chosen = _first_verified(row)
    if chosen is None:
        return "no generation is complete and judged right"
    index, verified_by = chosen
    generation = row.generations[index]
    before, opened, rest = generation.partition(_OPEN)
    inside, closed, response = rest.partition(_CLOSE)
    if not opened or not closed or not inside.strip():
        return f"the chosen generation has no {_OPEN} ... {_CLOSE}"
    cot = inside.strip()
    at = inside.index(cot)
    return reasoned(
        source,
        line,
        licence=LICENCE,
        question=row.problem,
        answer=row.answer,
        cot=cot,
        steps=paragraphs(cot),
        before=before + opened + inside[:at],
        after=inside[at + len(cot) :] + closed + response,
        extras={
            "config": source.config,
            "solution": row.solution,
            "response": response.strip(),
            "generation_index": index,
            "verified_by": verified_by,
            "source": row.source,
            "problem_type": row.problem_type,
            "question_type": row.question_type,
            "uuid": row.uuid,
        },
    )


def _first_verified(row: Row) -> tuple[int, str] | None:
    """(index, judge) of the trace to take; a missing or short list counts as false."""
    for index, complete in enumerate(row.is_reasoning_complete[: len(row.generations)]):
        judges = {"math_verify": row.correctness_math_verify, "llama": row.correctness_llama}
        for judge, verdicts in judges.items():
            if complete and verdicts is not None and verdicts[index : index + 1] == [True]:
                return index, judge
    return None


OPENR1_MATH = Corpus(
    name="openr1_math",
    hub_id="open-r1/OpenR1-Math-220k",
    revision="e4e141ec9dea9f8326f4d347be56105859b2bd68",
    licence=LICENCE,
    # `all` is the union of the other two: load one of the three.
    configs={
        "default": (Files("train", Split.TRAIN, ("data/train-*.parquet", "*.parquet", "*.jsonl")),),
        "extended": (Files("extended", Split.TRAIN, ("extended/train-*.parquet", "extended*.jsonl")),),
        "all": (Files("all", Split.TRAIN, ("all/*.parquet", "all*.jsonl")),),
    },
    rows={"default/train": 93_733, "extended/train": 131_396, "all/train": 225_129},
    has_cot=True,
    redistribute=True,
    normalise=by_row(Row, build),
)
