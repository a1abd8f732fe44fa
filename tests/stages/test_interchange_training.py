"""Exchanged parts against one plain forward pass with the coordinates put in by hand, and the gate that is measured."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from transformers import GPT2LMHeadModel

from raysae.models.capture import capture, splice
from raysae.models.circuit import known_circuit
from raysae.stages import pretrain as stage
from raysae.stages.exhibits.known_circuit import readable, true_exchange
from raysae.stages.interchange_training import IGNORED, PLAIN, InterchangeTraining, missed, told
from raysae.stages.recipes import RECIPES
from raysae.types import HookPoint
from raysae.types.experiment import ModelConfig
from raysae.worlds import bfs_step

RECIPE = RECIPES["tiny-bfs"]
SITE = HookPoint(layer=0, site="resid_post")
TEXTS = [bfs_step.read(record) for record in bfs_step.generate(40, seed=3)]
VARIABLES = list(bfs_step.VARIABLES)
REST = len(VARIABLES)


@pytest.fixture(scope="module")
def training() -> InterchangeTraining:
    assert RECIPE.circuit is not None
    return InterchangeTraining(RECIPE.circuit, RECIPE.tokenizer([], 0), eos="<eos>", d_model=64, seed=0)


@pytest.fixture(scope="module")
def model(training: InterchangeTraining) -> GPT2LMHeadModel:
    return stage.build(RECIPE, training.tokenizer, seed=0).eval()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of a model that had no time to learn, and what was said of it."""
    said: list[str] = []
    return stage.pretrain("tiny-bfs", tmp_path_factory.mktemp("tiny") / "model", steps=2, say=said.append), said


def ids(words: tuple[str, ...]) -> torch.Tensor:
    return torch.tensor([[bfs_step.VOCABULARY.index(word) for word in words]])


def own() -> list[list[int]]:
    return [[row] * (REST + 1) for row in range(len(TEXTS))]


def test_blocks_are_orthonormal_and_leave_a_rest(training: InterchangeTraining) -> None:
    rows = training.known.rows
    assert rows.shape == (30, 64)
    assert torch.allclose(rows @ rows.T, torch.eye(30), atol=1e-5)
    assert {name: len(block) for name, block in training.known.blocks.items()} == {
        "node": 8, "head": 8, "second": 8, "depth": 4, "level": 2
    }  # fmt: skip


@pytest.mark.parametrize("part", [*range(REST + 1), "words"])
@torch.no_grad()
def test_an_exchange_is_what_it_is_when_done_by_hand(
    training: InterchangeTraining, model: GPT2LMHeadModel, part: int | str
) -> None:
    base, source = 4, 17
    parts, words = own(), list(range(len(TEXTS)))
    if part == "words":
        words[base] = source
    else:
        parts[base][int(part)] = source
    batch = training.exchange(TEXTS, parts, words, [False] * len(TEXTS))
    moment, other = TEXTS[base], TEXTS[source]
    answers = moment.answers(moment.state)
    if part not in ("words", REST):
        answers = moment.exchanged(VARIABLES[int(part)], other.state[VARIABLES[int(part)]])
    assert answers is not None
    text = ids((*moment.words, *answers))
    here, there = (
        capture(model, some, torch.ones_like(some), (SITE,))[SITE][0] for some in (text, ids(tuple(other.words)))
    )
    edited = here.clone()
    site = len(moment.words) - 1
    if part == "words":
        for place in (0, 1, 3, 4):
            edited[place] = there[place]
    else:
        moved = there[len(other.words) - 1] - here[site]
        rows = training.known.rows if part == REST else training.known.blocks[VARIABLES[int(part)]]
        along = moved @ rows.T @ rows
        edited[site] += moved - along if part == REST else along
    with splice(model, SITE, lambda hidden: edited[None]):
        expected = model(text, use_cache=False).logits[0]
    found = training.logits(model, batch)[base, : text.shape[1]]
    assert torch.allclose(found, expected, atol=1e-4)
    assert batch.targets[base][batch.targets[base] != IGNORED].tolist() == ids(answers)[0].tolist()
    assert (batch.targets[base, : site + 1] == IGNORED).all()


def test_one_in_eight_keeps_its_values_and_answers_are_those_of_the_values_that_came(
    training: InterchangeTraining,
) -> None:
    batch = training.draw(TEXTS)
    blocks = batch.parts[:, :REST]
    for row, text in enumerate(TEXTS):
        state = {v: TEXTS[int(blocks[row, place])].state[v] for place, v in enumerate(VARIABLES)}
        answers = text.answers(state)
        assert answers is not None
        plain = row % PLAIN == 0
        asked = batch.targets[row][batch.targets[row] != IGNORED].tolist()
        expected = ids((*text.words, *answers) if plain else answers)[0].tolist()
        assert asked == [*expected, training.eos] if plain else asked == expected
        assert not plain or (blocks[row] == row).all()
    own = torch.arange(len(TEXTS))
    assert (blocks != own[:, None]).float().mean().item() == pytest.approx(7 / 8, abs=0.07)
    for others in (batch.parts[:, REST], batch.words):
        assert (others == own).float().mean().item() < 0.2


def test_training_measures_the_gate_and_says_where_it_is_missed(written: tuple[Path, list[str]]) -> None:
    folder, said = written
    made_of = json.loads((folder / "pretrain.json").read_text())
    assert made_of["circuit"]["accuracy"] < 0.5
    assert set(made_of["circuit"]["interchange_accuracy"]) == set(VARIABLES)
    assert said == told(made_of["circuit"])
    assert [f"the gate is missed: {line}" for line in made_of["missed"]] == said[1:] != []


def test_the_gate_is_the_specifications() -> None:
    good = {"accuracy": 0.99, "interchange_accuracy": {"node": 0.95}, "effect_of_rest": 0.02}
    good |= {"effect_of_source_words": 0.0}
    assert missed(good) == [] and told(good)[-1] == "the gate is passed"
    for worse, word in (
        ({"accuracy": 0.98}, "accuracy 0.980"),
        ({"interchange_accuracy": {"node": 0.94}}, "of node 0.940"),
        ({"effect_of_rest": 0.03}, "effect of rest 0.030"),
        ({"effect_of_source_words": 0.03}, "effect of source words 0.030"),
    ):
        [line] = missed({**good, **worse})
        assert word in line


def test_the_folder_tells_the_judge_where_the_variables_are(written: tuple[Path, list[str]]) -> None:
    config = ModelConfig(name="tiny-bfs", path=written[0])
    known = known_circuit(config)
    assert known is not None and known.hookpoint == SITE
    assert known_circuit(config.model_copy(update={"randomize": True})) is None
    assert known_circuit(ModelConfig()) is None
    experiment = SimpleNamespace(model=config)
    court: Any = Mock(experiment=experiment)
    exam: Any = SimpleNamespace(court=court, experiment=experiment, source="main", hookpoint=SITE)
    pairs: Any = SimpleNamespace(variable="head")
    moved = torch.randn((5, 64), generator=torch.Generator().manual_seed(0))
    edit = true_exchange(exam, pairs, bfs_step.NODES, moved)
    assert edit is not None
    assert torch.allclose(edit @ known.blocks["head"].T, moved @ known.blocks["head"].T, atol=1e-5)
    assert torch.allclose(edit @ known.blocks["node"].T, torch.zeros(5, 8), atol=1e-5)
    seen = readable(exam, moved)
    assert seen is not None and torch.allclose(seen @ known.rows.T, moved @ known.rows.T, atol=1e-5)
    assert torch.linalg.matrix_rank(seen) == 5 and not torch.allclose(seen, moved, atol=0.1)
    exam.source = "random_model"
    assert true_exchange(exam, pairs, bfs_step.NODES, moved) is readable(exam, moved) is None
