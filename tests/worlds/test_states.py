"""The systems of phase 1 against naive interpreters that know nothing of how the traces were made."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tokenizers

import raysae
from raysae.corpora.splits import SplitRule, problem_key, uniform
from raysae.models.describe import describe
from raysae.types import CorpusRecord, Split
from raysae.types.experiment import ModelConfig
from raysae.types.text import SplitShares
from raysae.worlds import stack, strata, traversal
from raysae.worlds.states import factor_names, resampled
from raysae.worlds.systems import SYSTEMS, systems_of, tokenizer_json

State = dict[str, str]


def steps_of(record: CorpusRecord) -> list[tuple[str, State]]:
    """(word, state) of each token, read back from text and labels."""
    found: list[tuple[str, State]] = []
    at = 0
    for word in record.text.split(" "):
        held = [label for label in record.labels if label.start == at]
        assert all(label.end == at + len(word) for label in held)
        assert len({label.variable for label in held}) == len(held), "a register holds two values"
        found.append((word, {label.variable: label.value for label in held}))
        at += len(word) + 1
    assert sum(len(state) for _, state in found) == len(record.labels), "a label lies across words"
    return found


def machine(tape: str) -> Iterator[tuple[str, State]]:
    """The pushdown machine as a table of the four operations on a string, top first."""
    letters, control, held = "abcdef", 0, ""
    for symbol in tape.split():
        n = letters.index(symbol)
        wish = ["push", "pop", "swap", "add"][(control + n + (letters.index(held[0]) if held else 0)) % 4]
        if wish == "push":
            done = "push" if len(held) < 5 else "add"
        else:
            done = wish if len(held) >= (2 if wish == "swap" else 1) else "push"
        state = {"control": str(control), "input": symbol, "operation": done}
        yield symbol, state | dict(zip(["top", "second", "third", "fourth", "fifth"], held, strict=False))
        if done == "push":
            held = symbol + held
        elif done == "pop":
            held = held[1:]
        elif done == "swap":
            held = held[1] + held[0] + held[2:]
        else:
            held = letters[(letters.index(held[0]) + n) % 6] + held[1:]
        control = (control * 2 + n + 1) % 5


def read_graph(question: str) -> tuple[str, dict[str, list[str]]]:
    _, root, _, *rows = question.split()
    return root, {row.split(":")[0]: row.split(":")[1].split(",") for row in rows}


def places(name: str, nodes: list[str]) -> State:
    ordinals = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh"]
    return {f"{name}.{ordinal}": node for ordinal, node in zip(ordinals, nodes, strict=False)}


def by_breadth(question: str) -> Iterator[tuple[str, State]]:
    root, edges = read_graph(question)
    found, done = [root], 0  # one list: what lies behind `done` waits
    while done < len(found):
        node, done = found[done], done + 1
        for other in edges[node]:
            state = {"node": node, "neighbour": other, "operation": "skip" if other in found else "enqueue"}
            state |= {f"open.{name}": "yes" for name in edges if name not in found}
            yield f"{node}>{other}", state | places("queue", found[done:])
            if other not in found:
                found.append(other)


def by_depth(question: str) -> Iterator[tuple[str, State]]:
    root, edges = read_graph(question)
    found = {root}

    def visit(node: str, above: list[str]) -> Iterator[tuple[str, State]]:
        for other in [*edges[node], None]:
            state = {"node": node} | {f"open.{name}": "yes" for name in edges if name not in found}
            state |= places("stack", above)
            if other is None:
                yield f"{node}<", state | {"operation": "pop"}
            else:
                new = other not in found
                yield f"{node}>{other}", state | {"neighbour": other, "operation": "push" if new else "skip"}
                found.add(other)
                if new:
                    yield from visit(other, [node, *above])

    yield from visit(root, [])


INTERPRETERS = {
    "stack_machine": lambda question: machine(question.removeprefix("tape ")),
    "bfs": by_breadth,
    "dfs": by_depth,
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_naive_interpreter_agrees_with_every_step_of_a_trace(name: str) -> None:
    for record in SYSTEMS[name].generate(60, seed=3):
        expected = [
            (word, {f"{name}.{register}": value for register, value in state.items()})
            for word, state in INTERPRETERS[name](record.question)
        ]
        assert steps_of(record) == expected


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_record_depends_on_the_seed_and_its_number_alone(name: str) -> None:
    system = SYSTEMS[name]
    records = list(system.generate(6, seed=1))
    assert list(system.generate(2, seed=1, start=3)) == records[3:5]
    assert [record.text for record in system.generate(6, seed=2)] != [record.text for record in records]
    assert len({record.text for record in records}) == len({record.record_id for record in records}) == 6


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_value_is_declared_and_nearly_every_declared_value_occurs(name: str) -> None:
    system = SYSTEMS[name]
    seen = {(label.variable, label.value) for record in system.generate(300, seed=0) for label in record.labels}
    declared = {(variable, value) for variable, values in system.variables.items() for value in values}
    assert seen <= declared
    rare = {variable for variable, _ in declared - seen}
    assert rare <= {"bfs.queue.seventh", "bfs.queue.sixth", "dfs.stack.seventh"}


def test_every_operation_of_the_machine_occurs_at_every_depth_that_allows_it() -> None:
    seen = Counter(
        (sum(name.split(".")[1] in stack.CELLS for name in state), state["stack_machine.operation"])
        for record in stack.SYSTEM.generate(300, seed=0)
        for _, state in steps_of(record)
    )
    assert set(seen) == {
        (depth, operation)
        for depth in range(6)
        for operation in stack.OPERATIONS
        if depth >= {"push": 0, "pop": 1, "swap": 2, "add": 1}[operation] and not (operation == "push" and depth == 5)
    }


def test_a_search_meets_every_node_once() -> None:
    for system, found in ((traversal.BFS, "enqueue"), (traversal.DFS, "push")):
        for record in system.generate(30, seed=9):
            met = [state[f"{system.name}.neighbour"] for _, state in steps_of(record)
                   if state[f"{system.name}.operation"] == found]  # fmt: skip
            assert sorted([*met, record.question.split()[1]]) == sorted(traversal.NAMES)
            assert sorted(record.answer.split()) == sorted(traversal.NAMES)


def test_graphs_that_differ_in_names_alone_have_one_shape_and_other_graphs_others() -> None:
    rng = np.random.default_rng(0)
    graphs = [read_graph(record.question) for record in traversal.BFS.generate(40, seed=0)]
    shapes = set[str]()
    for root, edges in graphs:
        graph = {int(node): [int(other) for other in others] for node, others in edges.items()}
        name = rng.permutation(traversal.NODES).tolist()
        renamed = {name[node]: [name[other] for other in sorted(others)] for node, others in graph.items()}
        assert traversal.shape(graph, int(root)) == traversal.shape(renamed, name[int(root)])
        shapes.add(traversal.shape(graph, int(root)))
    assert len(shapes) == 40


@pytest.mark.parametrize("name", SYSTEMS)
def test_no_problem_lies_in_two_splits(name: str) -> None:
    rule = SplitRule(SplitShares(fit=0.2, test=0.3), native_test=False)
    sides: dict[str, set[Split]] = {}
    counts = Counter[Split]()
    for record in SYSTEMS[name].generate(400, seed=0):
        side = rule.alone(record.split, uniform(problem_key(record), 0))
        sides.setdefault(str(record.extras["original_question"]), set()).add(side)
        counts[side] += 1
    assert all(len(found) == 1 for found in sides.values())
    assert min(counts.values()) > 40


def test_the_bundled_tokenizer_has_one_token_per_step_and_none_it_does_not_know() -> None:
    bundled = Path(raysae.__file__).parent / "models" / "bundled" / "states" / "tokenizer.json"
    assert bundled.read_text() == tokenizer_json()
    encoder = tokenizers.Tokenizer.from_file(str(bundled))
    assert encoder.get_vocab_size() == describe(ModelConfig(name="rotated")).vocab_size
    for system in SYSTEMS.values():
        for record in system.generate(20, seed=0):
            encoded = encoder.encode(record.text)
            assert encoded.tokens == record.text.split(" ")
            assert "<unk>" not in encoded.tokens


def test_rotated_directions_are_orthonormal_and_no_coordinate_is_a_factor() -> None:
    rows = strata.rotated(40, 48, np.random.default_rng(0))
    assert np.allclose(rows @ rows.T, np.eye(40))
    assert np.abs(rows).max() < 0.9, "reading off coordinates would be recovery"
    with pytest.raises(ValueError, match="40 orthogonal directions in 30"):
        strata.rotated(40, 30, np.random.default_rng(0))


def test_superposed_directions_have_unit_length_and_overlap() -> None:
    rows = strata.superposed(48, 32, np.random.default_rng(0))
    assert np.allclose(np.linalg.norm(rows, axis=1), 1)
    assert np.linalg.matrix_rank(rows) == 32
    assert np.abs(rows @ rows.T - np.eye(48)).max() > 0.3


def test_an_activation_is_the_sum_of_the_directions_of_what_holds() -> None:
    rng = np.random.default_rng(0)
    factors, rows = rng.random((500, 12)) < 0.3, strata.rotated(12, 16, rng)
    x = strata.activations(factors, rows, rng)
    amplitude = x @ rows.T
    on, off = amplitude[factors], amplitude[~factors]
    assert x.dtype == np.float32
    assert on.min() > 0.95 and on.max() < 1.25
    assert abs(on.mean() - 1.1) < 0.01
    assert np.abs(off).max() < 0.05
    assert abs(np.std(x - amplitude @ rows) - 0.01 * 0.5) < 1e-3, "noise beside the twelve of sixteen dimensions"


def test_resampled_registers_keep_their_rates_and_lose_their_ties() -> None:
    records = [record for system in SYSTEMS.values() for record in system.generate(150, seed=0)]
    states = [state for record in records for _, state in steps_of(record)]
    names = [name for system in SYSTEMS.values() for name in system.variables]
    labels = {name: np.array([state.get(name) for state in states], dtype=object) for name in names}
    drawn, again = (resampled(labels, systems_of(names), seed=0) for _ in range(2))
    whose = np.array([next(iter(state)).split(".")[0] for state in states])
    for name in names:
        assert Counter(drawn[name]) == Counter(labels[name])
        elsewhere = drawn[name][whose != name.split(".")[0]]
        assert all(value is None for value in elsewhere), "a register of another system was drawn"
        assert (drawn[name] == again[name]).all()
    tied = (labels["stack_machine.second"] != None) & (labels["stack_machine.top"] == None)  # noqa: E711
    loose = (drawn["stack_machine.second"] != None) & (drawn["stack_machine.top"] == None)  # noqa: E711
    assert not tied.any() and loose.any()


def test_a_factor_is_named_by_register_and_value() -> None:
    names = factor_names((stack.SYSTEM,))
    assert names[:6] == tuple(f"stack_machine.control={i}" for i in range(5)) + ("stack_machine.input=a",)
    assert len(names) == len(set(names)) == 5 + 6 + 4 + 5 * 6
