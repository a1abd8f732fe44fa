"""The systems of phase 1 by name."""

from collections.abc import Iterable

from raysae.worlds import stack, traversal
from raysae.worlds.states import System
from raysae.worlds.word_tokenizer import word_tokenizer

SYSTEMS: dict[str, System] = {system.name: system for system in (stack.SYSTEM, traversal.BFS, traversal.DFS)}
"""To add one: its file, and its place in this line. The bundled tokenizer must then be written anew."""


def systems_of(labels: Iterable[str]) -> list[System]:
    """Those that some of these labels belong to, in the order of the table."""
    named = {label.partition(".")[0] for label in labels}
    return [system for name, system in SYSTEMS.items() if name in named]


def tokenizer_json() -> str:
    """A `tokenizers` JSON that knows the words of all of them."""
    words = dict.fromkeys(word for system in SYSTEMS.values() for word in system.words)
    return word_tokenizer(("<unk>", *words), specials=1)
