"""The breadth-first step against a reader who searches the written graph from every root, level by level."""

from collections import Counter

import pytest
import tokenizers

from raysae.types import CorpusRecord
from raysae.worlds import bfs_step as world
from raysae.worlds.traversal import shape


@pytest.fixture(scope="module")
def records() -> list[CorpusRecord]:
    return list(world.generate(600, seed=5))


def graph_of(words: list[str]) -> dict[str, list[str]]:
    """The adjacency list as written: `3>5` opens the list of 3, `,0` goes on with it."""
    graph: dict[str, list[str]] = {}
    for word in words:
        if ">" in word:
            graph[word[0]] = [word[2]]
        else:
            graph[[*graph][-1]].append(word[1])
    return graph


def parts(text: str) -> tuple[str, int, list[str], dict[str, list[str]], list[str]]:
    """Node, depth, queue, graph and answers of a text."""
    told, answers = text.split(" : ")
    state, graph = told.split(" graph ")
    node, depth, queue, *waiting = state.split()
    assert (node[:4], depth[:5], queue) == ("node", "depth", "queue")
    return node[4:], int(depth[5:]), waiting, graph_of(graph.split()), answers.split()


def states(graph: dict[str, list[str]], root: str) -> list[tuple[str, int, list[str]]]:
    """Every node that a search from `root` takes, its distance, and who waits when all its neighbours are known."""
    order, distance = [root], {root: 0}
    for node in order:
        for other in graph[node]:
            if other not in distance:
                order.append(other)
                distance[other] = distance[node] + 1
    found = []
    for place, node in enumerate(order):
        known = {root, *(other for taken in order[: place + 1] for other in graph[taken])}
        waiting = [other for other in order[place + 1 :] if other in known]
        found.append((node, distance[node], [f"{w}+" if distance[w] > distance[node] else w for w in waiting]))
    return found


def answers_to(graph: dict[str, list[str]], *, node: str, head: str, second: str, depth: str, level: str) -> list[str]:
    """What the program says of these values."""
    first = graph[head][0]
    distance = int(depth) + {"same": 0, "further": 1}[level]
    return [f"{head}>{first}", f"at{distance}", f"after{node}", f"then{second}"]


def values(text: str) -> dict[str, str]:
    node, depth, waiting, _, _ = parts(text)
    level = "further" if waiting[0].endswith("+") else "same"
    return {"node": node, "head": waiting[0][0], "second": waiting[1][0], "depth": str(depth), "level": level}


def test_every_text_is_a_moment_of_a_search_and_its_answers_follow_from_it(records: list[CorpusRecord]) -> None:
    for record in records:
        node, depth, waiting, graph, answers = parts(record.text)
        assert 6 <= len(graph) <= 8
        assert all(one in graph[other] for one in graph for other in graph[one])
        assert len(waiting) >= 2
        assert any((node, depth, waiting) in states(graph, root) for root in graph)
        assert answers == answers_to(graph, **values(record.text))
        assert record.answer == " ".join(answers)
        assert record.text == f"{record.question} {record.answer}"


def test_labels_stand_on_the_delimiter_and_say_what_is_written(records: list[CorpusRecord]) -> None:
    for record in records:
        assert {record.text[label.start : label.end + 1] for label in record.labels} == {": "}
        assert {label.variable: label.value for label in record.labels} == values(record.text)


def test_all_values_of_a_variable_but_the_levels_occur_about_equally_often() -> None:
    held = [values(record.text) for record in world.generate(3000, seed=2)]
    for variable, names in world.VARIABLES.items():
        counts = Counter(state[variable] for state in held)
        assert set(counts) == set(names)
        assert min(counts.values()) > (0.55 if variable == "level" else 0.8) * max(counts.values())


def test_a_record_depends_on_its_number_and_the_seed_alone() -> None:
    assert list(world.generate(5, seed=3, start=7)) == list(world.generate(12, seed=3))[7:]
    assert next(world.generate(1, seed=4)) != next(world.generate(1, seed=3))


def test_the_problem_of_a_record_is_its_graph_from_its_root_whatever_the_nodes_are_called(
    records: list[CorpusRecord],
) -> None:
    for record in records[:100]:
        node, depth, waiting, graph, _ = parts(record.text)
        roots = [root for root in graph if (node, depth, waiting) in states(graph, root)]
        renamed = {7 - int(name): [7 - int(other) for other in others] for name, others in graph.items()}
        assert record.extras["original_question"] in {shape(renamed, 7 - int(root)) for root in roots}


def test_the_tokenizer_has_a_token_for_each_word_and_gives_the_text_back(records: list[CorpusRecord]) -> None:
    tokenizer = tokenizers.Tokenizer.from_str(world.tokenizer_json())
    for record in records:
        ids = tokenizer.encode(record.text).ids
        assert [world.VOCABULARY[i] for i in ids] == record.text.split(" ")
    assert len(set(world.VOCABULARY)) == tokenizer.get_vocab_size()
    assert tokenizer.encode("node0 <eos> <pad> node9").ids[-3:] == [1, 0, 2]


def test_words_carry_what_answers_say() -> None:
    assert world.carried("5>1") == {"head": "5"}
    assert (world.carried("after3"), world.carried("then2")) == ({"node": "3"}, {"second": "2"})
    assert [world.carried(word) for word in ("at2", ",5", "5+", "node5", ":", "graph")] == [{}] * 6


@pytest.mark.parametrize("variable", world.VARIABLES)
def test_a_pair_is_informative_and_writes_what_the_program_says(records: list[CorpusRecord], variable: str) -> None:
    texts = {record.record_id: record.text for record in records}
    for value in world.VARIABLES[variable]:
        pairs = world.interchange_pairs(records, variable, value, 40, seed=0)
        assert len(pairs) == 40
        assert len({pair.base_record_id for pair in pairs}) > 30
        for pair in pairs:
            base, source = texts[pair.base_record_id], texts[pair.source_record_id]
            assert values(source)[variable] == value == pair.value != values(base)[variable]
            graph, was, there = parts(base)[3], parts(base)[4], parts(source)[4]
            now = answers_to(graph, **{**values(base), variable: value})
            assert pair.text == base.split(" : ")[0] + " : " + " ".join(now)
            assert now not in (was, there), "doing nothing and copying the source both fail"
            assert any(n == w != t for n, w, t in zip(now, was, there, strict=True)), "something must be kept"
            for n, w, said in zip(now, was, pair.about, strict=True):
                assert n == w or variable in said[0].follows
                assert said[0].part == "" or world.carried(n) == {
                    said[0].part: {**values(base), variable: value}[said[0].part]
                }
            assert pair.source_text == source
            assert pair.text[pair.char] == source[pair.source_char] == ":"
            assert [pair.text[char:].split(" ")[0] for char in pair.readouts] == now


def test_a_head_that_the_graph_lacks_has_no_answers_and_makes_no_pair(records: list[CorpusRecord]) -> None:
    small = next(record for record in records if len(parts(record.text)[3]) == 6)
    graph = parts(small.text)[3]
    for name in world.NODES:
        assert (world.read(small).exchanged("head", name) is None) == (name not in graph)
