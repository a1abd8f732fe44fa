"""Where a trace shows what a reader makes of it."""

from raysae.types import CorpusRecord
from raysae.worlds.controlled_cot.words import FAILS, HOLDS
from raysae.worlds.readings import Detection, Readings


def readings(record: CorpusRecord) -> Readings | None:
    """Answer, close, ends of steps and, of each verification that fails, the verdict. None for a story."""
    if not record.steps:
        return None
    verdicts = [end - len(f"{FAILS} .") for _, end in record.step_spans if record.text[:end].endswith(f" {FAILS} .")]
    return Readings(
        answer=len(record.text) - len(record.answer),
        close=record.step_spans[-1][1] + 1,
        ends=tuple(end + 1 for _, end in record.step_spans),
        detections=tuple(Detection(char, FAILS, HOLDS) for char in verdicts),
    )
