"""Breadth-first and depth-first search of a small graph, an edge per micro-step (SCIENCE 3.1).

A micro-step looks along one edge of the node at hand, from `node` to `neighbour`, and either meets a node nobody has
seen (it joins the queue, or is gone to) or one that is known already (`skip`). Depth-first search keeps an explicit
stack of the way to its node and has one more step, `pop`, when a node has no edge left. Nodes not yet seen are one
register each (`open.3`), which holds `yes` until the node is found.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from raysae.worlds.states import Step, System, Trace

NODES = 8
EDGE_RATE = 0.55
NAMES = tuple(map(str, range(NODES)))
PLACES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")

Graph = Mapping[int, Sequence[int]]
"""Node -> its neighbours, in the order in which it looks at them."""

_OPEN = {f"open.{name}": ("yes",) for name in NAMES}
BFS_REGISTERS = {
    "node": NAMES,
    "neighbour": NAMES,
    "operation": ("enqueue", "skip"),
    **{f"queue.{place}": NAMES for place in PLACES},
    **_OPEN,
}
DFS_REGISTERS = {
    "node": NAMES,
    "neighbour": NAMES,
    "operation": ("push", "skip", "pop"),
    **{f"stack.{place}": NAMES for place in PLACES},
    **_OPEN,
}


def draw_graph(rng: random.Random) -> Graph:
    """Connected, each pair joined with probability EDGE_RATE, every node's edges in an order of their own."""
    while True:
        graph: dict[int, list[int]] = {node: [] for node in range(NODES)}
        for a in range(NODES):
            for b in range(a):
                if rng.random() < EDGE_RATE:
                    graph[a].append(b)
                    graph[b].append(a)
        if len(_reached(graph)) == NODES:
            for neighbours in graph.values():
                rng.shuffle(neighbours)
            return graph


def shape(graph: Graph, root: int) -> str:
    """Equal for graphs that differ in the names of their nodes alone: colours refined by those of the neighbours. Some
    graphs that differ otherwise share a shape as well, and so a split."""
    colour: dict[int, int] = {node: int(node == root) for node in graph}
    for _ in range(NODES):
        seen = {node: (colour[node], tuple(sorted(colour[other] for other in graph[node]))) for node in graph}
        order = {key: number for number, key in enumerate(sorted(set(seen.values())))}
        colour = {node: order[seen[node]] for node in graph}
    edges = sorted(tuple(sorted((colour[a], colour[b]))) for a in graph for b in graph[a] if a < b)
    return f"{colour[root]}:" + " ".join(f"{a}-{b}" for a, b in edges)


def breadth_first(graph: Graph, root: int) -> list[Step]:
    steps: list[Step] = []
    unseen = set(graph) - {root}
    queue = deque([root])
    while queue:
        node = queue.popleft()
        for neighbour in graph[node]:
            held = {"node": str(node), "neighbour": str(neighbour)}
            held["operation"] = "enqueue" if neighbour in unseen else "skip"
            held |= {f"queue.{place}": str(waiting) for place, waiting in zip(PLACES, queue, strict=False)}
            steps.append(Step(f"{node}>{neighbour}", held | _open(unseen)))
            if neighbour in unseen:
                unseen.remove(neighbour)
                queue.append(neighbour)
    return steps


def depth_first(graph: Graph, root: int) -> list[Step]:
    steps: list[Step] = []
    unseen = set(graph) - {root}
    way, left = [root], {node: list(neighbours) for node, neighbours in graph.items()}
    while way:
        node = way[-1]
        held = {"node": str(node)} | _open(unseen)
        held |= {f"stack.{place}": str(below) for place, below in zip(PLACES, reversed(way[:-1]), strict=False)}
        if not left[node]:
            steps.append(Step(f"{node}<", held | {"operation": "pop"}))
            way.pop()
            continue
        neighbour = left[node].pop(0)
        operation = "push" if neighbour in unseen else "skip"
        steps.append(Step(f"{node}>{neighbour}", held | {"neighbour": str(neighbour), "operation": operation}))
        if neighbour in unseen:
            unseen.remove(neighbour)
            way.append(neighbour)
    return steps


def _open(unseen: set[int]) -> dict[str, str]:
    return {f"open.{node}": "yes" for node in sorted(unseen)}


def _reached(graph: Graph) -> set[int]:
    found, ahead = {0}, [0]
    while ahead:
        for other in graph[ahead.pop()]:
            if other not in found:
                found.add(other)
                ahead.append(other)
    return found


def _searched(search: Callable[[Graph, int], list[Step]], rng: random.Random) -> Trace:
    graph, root = draw_graph(rng), rng.randrange(NODES)
    steps = search(graph, root)
    order = dict.fromkeys(step.state["node"] for step in steps)
    return Trace(shape(graph, root), _written(graph, root), " ".join(order), steps)


def _written(graph: Graph, root: int) -> str:
    edges = " ".join(f"{a}:{','.join(map(str, graph[a]))}" for a in sorted(graph))
    return f"from {root} in {edges}"


_EDGES = tuple(f"{a}>{b}" for a in NAMES for b in NAMES if a != b)
BFS = System("bfs", BFS_REGISTERS, partial(_searched, breadth_first), _EDGES)
DFS = System("dfs", DFS_REGISTERS, partial(_searched, depth_first), (*_EDGES, *(f"{a}<" for a in NAMES)))
