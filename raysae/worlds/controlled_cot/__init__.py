"""Controlled chains of thought: problems solved by a program, traces whose steps are labelled token by token.

    Ann has 12 . pen costs 7 . find Ann plus pen ? as told so price of pen is 7 . ... 12 plus 7 is 19 holds . done 19

A step is one of PARSE (what is given), DECOMPOSE (what is to be done), OPERATE (a result that is new), VERIFY (a result
that was stated before, and whether it holds) and FORMAT (a value reported). `sets.py` says what the records are for,
`programs.py` and `traces.py` what is computed and in which order, `templates.py` and `rendering.py` how it is said.

Labels: `step_type` on all of a step; `step_index`; `operation`, `operand`, `value` and `error` on the words that
carry them. `step_end` is the type once more, on the word that completes a step, where a reader knows the whole of it,
and only on as many steps of each type at each place of the text (`balance.py`). `cue_label` stands beside it where cues
are swapped.
"""

from raysae.worlds.controlled_cot.reading import readings
from raysae.worlds.controlled_cot.rendering import NAME
from raysae.worlds.controlled_cot.sets import CYCLE, generate, mixed
from raysae.worlds.controlled_cot.templates import FAMILIES, TEXTS
from raysae.worlds.controlled_cot.words import ALLOWED_CUES, STEP_TYPES, vocabulary
from raysae.worlds.word_tokenizer import word_tokenizer

VOCABULARY = vocabulary(TEXTS)
"""Word of each token id."""


def tokenizer_json() -> str:
    """A `tokenizers` JSON of the vocabulary."""
    return word_tokenizer(VOCABULARY, specials=3)


__all__ = [
    "ALLOWED_CUES",
    "CYCLE",
    "FAMILIES",
    "NAME",
    "STEP_TYPES",
    "VOCABULARY",
    "generate",
    "mixed",
    "readings",
    "tokenizer_json",
]
