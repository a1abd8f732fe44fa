"""Made-up rows in the native schema of the corpora of which there is no sample to ship, and writers for each format."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

COT_COLLECTION = {
    "17": {
        "source": "Q: Which is heavier?\nOptions:\n- a stone\n- a leaf",
        "target": "a stone",
        "rationale": "Stones are dense. Mr. Hall says a leaf weighs e.g. 1.5 g! So the stone is heavier.",
        "task": "made_up",
        "type": "CoT",
    },
    "18": {"source": "s", "target": "t", "rationale": "One sentence", "task": "other", "type": "CoT"},
}

THOUGHT = "<think>\nFirst, 2 + 2 = 4.\n\nThen 4 * 2 = 8.\nThat is it.\n</think>\n\nThe answer is $8$."


def openr1(**changes: Any) -> dict[str, Any]:
    return {
        "problem": "What is $2(2+2)$?",
        "solution": "It is 8.",
        "answer": "8",
        "problem_type": "Algebra",
        "question_type": "math-word-problem",
        "source": "made_up",
        "uuid": "u",
        "is_reasoning_complete": [True, True],
        "generations": ["<think>wrong</think>9", THOUGHT],
        "correctness_math_verify": [False, True],
        "correctness_llama": None,
        "finish_reasons": None,
        "correctness_count": 1,
        "messages": [{"role": "user", "content": "What is $2(2+2)$?"}, {"role": "assistant", "content": THOUGHT}],
        **changes,
    }


def reveal(step_idx: int, step: str, answer_id: str = "a1", **changes: Any) -> dict[str, Any]:
    return {
        "dataset": "made_up",
        "question_id": "q1",
        "question": "Does a stone float?",
        "answer_id": answer_id,
        "full_answer": "Stones are dense. Dense things sink. So no.",
        "answer_is_logically_correct": "True",
        "step_idx": str(step_idx),
        "step": step,
        "evidence": "",
        "correctness_label": "Correct",
        **changes,
    }


def trip(**changes: Any) -> dict[str, Any]:
    john = ["John took a chair.", "John sat down.", "John turned on the radio."]
    broken = [john[0], "John broke his radio.", john[2]]
    story = {"story_id": 1, "worker_id": "w", "type": "cloze", "idx": 1, "length": 3, "states": [{"power": []}] * 3}
    return {
        "example_id": "made_up_1",
        "length": 3,
        "label": 0,
        "breakpoint": 2,
        "confl_sents": [1],
        "confl_pairs": [[1, 2]],
        "stories": [
            {**story, "sentences": john, "plausible": True},
            {**story, "sentences": broken, "plausible": False},
        ],
        **changes,
    }


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path
