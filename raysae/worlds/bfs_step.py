"""One step of breadth-first search, written out: which node is taken next, and what follows from it (SCIENCE 4.1, T2).

    node3 depth1 queue 5 2+ 7+ graph 0>4 ,3 2>3 3>5 ,0 ,2 4>0 5>7 ,3 7>5 : 5>7 at1 after3 then2

A search of a connected graph of six to eight nodes, at a moment when all neighbours of its node have been looked at and
two or more wait: the node, its distance from the root (`depth`), the queue, where `+` marks those that lie one further
out than the node, and the adjacency list (`3>5 ,0 ,2`: 3 is joined to 5, 0 and 2, which it looks at in this order).
Behind `:` stands what the search does: it takes the head of the queue and looks along its first edge (`5>7`), at a
distance (`at1`: that of the node, or one more), after the node, and the second in the queue comes then.

The variables are what the answers follow from, and all of them are known on the `:`, where they are exchanged: every
answer lies behind. Which edge comes first depends on the graph as well, so an exchanged head must be a node of it.
"""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raysae.types import CorpusRecord, LabelSpan
from raysae.types.experiment import stream_seed
from raysae.worlds.interchange import WORD, InterchangePair, Said, draw_pairs
from raysae.worlds.traversal import Graph, shape
from raysae.worlds.word_tokenizer import word_spans, word_tokenizer

NAME = "bfs_step"
LICENCE = "MIT"

NODES = tuple("01234567")
SIZES = (6, 7, 8)
EXTRA_EDGES = 3
"""At most, beside those of a tree."""
DEPTHS = tuple("0123")
FURTHER = "+"
DELIMITER = ":"

VARIABLES: dict[str, tuple[str, ...]] = {
    "node": NODES,
    "head": NODES,
    "second": NODES,
    "depth": DEPTHS,
    "level": ("same", "further"),
}
"""Causal variables and their values: the node at hand and its distance, the first and the second in the queue, and
whether the first lies as far out as the node or further."""
SYNONYMS: dict[str, str] = {}
"""No two words mean the same."""

VOCABULARY: tuple[str, ...] = (
    *("<pad>", "<eos>", "<unk>", "queue", "graph", DELIMITER),
    *(f"node{name}" for name in NODES),
    *(f"depth{depth}" for depth in DEPTHS),
    *(name + mark for name in NODES for mark in ("", FURTHER)),
    *(f"{a}>{b}" for a in NODES for b in NODES if a != b),
    *(f",{name}" for name in NODES),
    *(f"at{distance}" for distance in range(len(DEPTHS) + 1)),
    *(f"{word}{name}" for word in ("after", "then") for name in NODES),
)
"""Word of each token id."""
ABOUT = (
    (Said("head", ("head",)),),
    (Said(WORD, ("depth", "level")),),
    (Said("node", ("node",)),),
    (Said("second", ("second",)),),
)
"""What each answer says."""
SOURCES = (0, 1, 3, 4)
"""Places of the words that the variables are read from."""


@dataclass(frozen=True)
class Moment:
    """A search between two nodes."""

    node: str
    depth: int
    queue: tuple[str, ...]
    """As written: the first two of it decide what is answered."""
    graph: tuple[str, ...]
    """The words of the adjacency list."""

    @classmethod
    def read(cls, text: str) -> "Moment":
        """The inverse of `words`, whatever stands behind the `:`."""
        words = text.split()
        cut, end = words.index("graph"), words.index(DELIMITER)
        return cls(words[0][-1], int(words[1][-1]), tuple(words[3:cut]), tuple(words[cut + 1 : end]))

    @property
    def words(self) -> tuple[str, ...]:
        """All up to the `:`."""
        return (f"node{self.node}", f"depth{self.depth}", "queue", *self.queue, "graph", *self.graph, DELIMITER)

    @property
    def state(self) -> dict[str, str]:
        """Variable -> its value."""
        head, second = self.queue[:2]
        level = "further" if head.endswith(FURTHER) else "same"
        return {"node": self.node, "head": head[0], "second": second[0], "depth": str(self.depth), "level": level}

    def answers(self, state: dict[str, str]) -> tuple[str, ...] | None:
        """The four words behind the `:` when the variables have these values, whether or not a search comes to them;
        None where the graph lacks the head."""
        edge = next((word for word in self.graph if word.startswith(f"{state['head']}>")), None)
        distance = int(state["depth"]) + (state["level"] == "further")
        return None if edge is None else (edge, f"at{distance}", f"after{state['node']}", f"then{state['second']}")

    def exchanged(self, variable: str, value: str) -> tuple[str, ...] | None:
        """The answers when one variable has another value."""
        return self.answers({**self.state, variable: value})


def generate(count: int, seed: int, start: int = 0) -> Iterator[CorpusRecord]:
    """Records `start` to `start + count - 1`; record i depends on (seed, i) alone."""
    for i in range(start, start + count):
        yield _record(i, *_draw(random.Random(stream_seed(seed, f"{NAME}.{i}"))))


def interchange_pairs(
    records: Sequence[CorpusRecord], variable: str, value: str, count: int, seed: int
) -> list[InterchangePair]:
    """At most `count` informative pairs (SCIENCE 4.4) whose source has `variable` = `value`; every base in turn.

    What the exchanged base answers differs from what base and source do, and one of its answers is the base's and not
    the source's.
    """
    rng = random.Random(stream_seed(seed, f"{NAME}.pairs.{variable}.{value}"))
    moments = [(record, read(record)) for record in records if record.source_dataset == NAME]
    sources = [found for found in moments if found[1].state[variable] == value]
    bases = [found for found in moments if found[1].state[variable] != value]

    def good(base: tuple[CorpusRecord, Moment], source: tuple[CorpusRecord, Moment]) -> bool:
        return informative(base[1], source[1], variable)

    return [_pair(variable, value, *pair) for pair in draw_pairs(bases, sources, count, rng, good)]


def informative(base: Moment, source: Moment, variable: str) -> bool:
    """Whether neither leaving the base as it is nor copying the source gives the exchanged answers, and one answer
    that the source would change must stay."""
    answers = base.exchanged(variable, source.state[variable])
    was, other = base.answers(base.state), source.answers(source.state)
    if answers is None or was is None or other is None or answers in (was, other):
        return False
    return any(now == before != there for now, before, there in zip(answers, was, other, strict=True))


def carried(word: str) -> dict[str, str]:
    """Variable -> value of what an answer says: a head, a node or a second. The distance is a sum of two variables and
    says neither."""
    if len(word) == 3 and word[1] == ">":
        return {"head": word[0]}
    names = {"after": "node", "then": "second"}
    return {names[word[:-1]]: word[-1]} if word[:-1] in names else {}


def tokenizer_json() -> str:
    """A `tokenizers` JSON of the vocabulary."""
    return word_tokenizer(VOCABULARY, specials=3)


def read(record: CorpusRecord) -> Moment:
    """The moment a record tells of, read back from its text."""
    return Moment.read(record.text)


def _draw(rng: random.Random) -> tuple[Graph, int, Moment]:
    """A graph, its root and a moment; every depth as often, and behind the root both levels."""
    depth = rng.randrange(len(DEPTHS))
    level = rng.choice(VARIABLES["level"]) if depth else "further"
    while True:
        graph = _draw_graph(rng)
        root = rng.choice(sorted(graph))
        fitting = [m for m in _moments(graph, root) if m.depth == depth and m.state["level"] == level]
        if fitting:
            return graph, root, rng.choice(fitting)


def _draw_graph(rng: random.Random) -> Graph:
    """A tree with a few edges more; names, and the order in which a node looks at its neighbours, at random."""
    names = rng.sample(range(len(NODES)), rng.choice(SIZES))
    edges = {frozenset((name, rng.choice(names[max(0, i - 3) : i]))) for i, name in enumerate(names) if i}
    edges |= {frozenset(rng.sample(names, 2)) for _ in range(rng.randint(0, EXTRA_EDGES))}
    graph: dict[int, list[int]] = {name: [] for name in sorted(names)}
    for a, b in sorted(map(sorted, edges)):
        graph[a].append(b)
        graph[b].append(a)
    for neighbours in graph.values():
        rng.shuffle(neighbours)
    return graph


def _moments(graph: Graph, root: int) -> list[Moment]:
    """All moments of a search at which two or more wait."""
    written = tuple(
        f"{node}>{other}" if first else f",{other}"
        for node, neighbours in graph.items()
        for first, other in zip([True] + [False] * len(neighbours), neighbours, strict=False)
    )
    depth, queue, found = {root: 0}, deque([root]), list[Moment]()
    while queue:
        node = queue.popleft()
        for other in graph[node]:
            if other not in depth:
                depth[other] = depth[node] + 1
                queue.append(other)
        if len(queue) > 1:
            waiting = tuple(f"{other}{FURTHER if depth[other] > depth[node] else ''}" for other in queue)
            found.append(Moment(str(node), depth[node], waiting, written))
    return found


def _record(i: int, graph: Graph, root: int, moment: Moment) -> CorpusRecord:
    answers = moment.answers(moment.state)
    assert answers is not None, "a search takes nodes of its graph"
    question, answer = " ".join(moment.words), " ".join(answers)
    site = len(question) - len(DELIMITER)
    return CorpusRecord(
        record_id=f"{NAME}/generated/{i}",
        question=question,
        answer=answer,
        cot=None,
        steps=(),
        source_dataset=NAME,
        split=None,
        licence=LICENCE,
        text=f"{question} {answer}",
        labels=tuple(
            LabelSpan(start=site, end=len(question), variable=variable, value=value)
            for variable, value in moment.state.items()
        ),
        extras={"original_question": shape(graph, root)},
    )


def _pair(
    variable: str, value: str, base: tuple[CorpusRecord, Moment], source: tuple[CorpusRecord, Moment]
) -> InterchangePair:
    (record, moment), (other, _) = base, source
    answers = moment.exchanged(variable, value)
    assert answers is not None, "informative"
    return InterchangePair(
        variable=variable,
        value=value,
        source_text=other.text,
        source_char=len(other.question) - len(DELIMITER),
        text=" ".join((record.question, *answers)),
        char=len(record.question) - len(DELIMITER),
        readouts=tuple(start for start, _ in word_spans(answers, len(record.question) + 1)),
        about=ABOUT,
        base_record_id=record.record_id,
        source_record_id=other.record_id,
    )
