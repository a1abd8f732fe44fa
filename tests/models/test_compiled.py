"""Transformers set by hand: they equal their programs, their norms are constant, their true subspaces are true."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice, product

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from raysae.models.capture import capture, splice
from raysae.models.compiled import SITE
from raysae.models.compiled.registers import CODED, HELD, directions, incoherent, registers, states
from raysae.models.load import load_model, random_twin
from raysae.types.experiment import ModelConfig
from raysae.worlds.brackets import ASK, DELIMITER, MACHINES, START, VOCABULARY, Machine, State
from raysae.worlds.compiled import COMPILED

IDS = {word: i for i, word in enumerate(VOCABULARY)}
NAMES = ("compiled", "compressed")


@pytest.fixture(scope="module", params=NAMES)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return ModelConfig(name=request.param)


@pytest.fixture(scope="module")
def model(config: ModelConfig) -> PreTrainedModel:
    return load_model(config)


def tokens(texts: Iterable[list[str]]) -> torch.Tensor:
    """Of one length."""
    return torch.tensor([[IDS[word] for word in text] for text in texts])


def text(machine: Machine, program: list[str], state: State | None = None) -> list[str]:
    state = state or machine.at_delimiter(program)
    return [START, *program, DELIMITER, ASK, *machine.readouts(state)]


def every_program(machine: Machine, length: int) -> Iterator[list[str]]:
    """All legal programs with so many words behind the ground."""
    for words in product(map(machine.ground, machine.alphabet), *[machine.words[len(machine.alphabet) :]] * length):
        try:
            machine.states(words)
        except ValueError:
            continue
        yield list(words)


@torch.no_grad()
def wrong(model: PreTrainedModel, machine: Machine, programs: list[list[str]]) -> int:
    """How many of so many programs of one length have an answer that is not the program's."""
    ids, found = tokens(text(machine, program) for program in programs), 0
    for rows in ids.split(2048):
        answers = model(rows, use_cache=False).logits[:, -7:-1].argmax(dim=-1)
        found += int((answers != rows[:, -6:]).any(dim=1).sum())
    return found


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_the_transformer_equals_its_program_on_every_short_one(model: PreTrainedModel, machine: Machine) -> None:
    for length in range(1, 5 if len(machine.alphabet) == 2 else 4):
        programs = list(every_program(machine, length))
        assert len(programs) > len(machine.alphabet) and wrong(model, machine, programs) == 0


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_the_transformer_equals_its_program_on_many_of_every_length(model: PreTrainedModel, machine: Machine) -> None:
    rng, by_length = random.Random(0), {length: [] for length in range(4, 17)}
    for _ in range(20_000):
        program = machine.draw(rng)
        by_length[len(program) - 1].append(program)
    assert all(by_length.values())
    assert sum(wrong(model, machine, programs) for programs in by_length.values()) == 0
    for length in (5, 6) if len(machine.alphabet) < 4 else (4,):
        assert wrong(model, machine, list(islice(every_program(machine, length), 100_000))) == 0


def test_it_is_right_on_long_programs_that_fill_their_stack(model: PreTrainedModel) -> None:
    rng = random.Random(1)
    for machine in MACHINES:
        drawn = [program for program in (machine.draw(rng) for _ in range(1500)) if len(program) == 17]
        depths = {state.depth for program in drawn for state in machine.states(program)}
        assert depths == set(range(machine.bound + 1))
        assert wrong(model, machine, drawn) == 0


def at_site(model: PreTrainedModel, texts: list[list[str]]) -> torch.Tensor:
    """[n, t, d]"""
    ids = tokens(texts)
    return capture(model, ids, torch.ones_like(ids), (SITE,))[SITE]


def test_the_site_holds_exactly_the_codes_of_what_the_program_says(model: PreTrainedModel, config: ModelConfig) -> None:
    code = registers(config.name, config.seed).code
    machine = MACHINES[3]
    for program in ([machine.ground("{"), "d(", "d[", "d.", "d]"], machine.draw(random.Random(5))):
        found = at_site(model, [text(machine, program)])[0].numpy()
        for place, state in enumerate([*machine.states(program), machine.at_delimiter(program)], 1):
            held = [code[name, "d", value] for name in machine.values if (value := state.value(name)) is not None]
            which = "ground" if place == 1 else "program" if place <= len(program) else DELIMITER
            strength = 2**0.5 if place == 1 else 1.0
            expected = sum(held) + code["parity", state.parity] + strength * code["kind", which]
            assert np.abs(found[place] - expected).max() < 2e-3
        assert np.abs(found[0] - HELD**0.5 * code["kind", START]).max() < 2e-3


def test_every_token_has_the_same_norm_before_every_layer_norm() -> None:
    model, seen = load_model(ModelConfig(name="compiled")), []
    for block in model.transformer.h:
        for layer in (block.ln_1, block.ln_2):
            layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(tokens([text(MACHINES[5], ["f_<", "f(", "f<", "f>", "f."])]))
    for x, squared in zip(seen, (6, 6, 6, 6, HELD, 2 * HELD), strict=True):
        assert x.mean(dim=-1).abs().max() < 1e-5
        assert x.square().sum(dim=-1).numpy() == pytest.approx(squared, rel=1e-3)


@torch.no_grad()
def accuracy(model: PreTrainedModel, config: ModelConfig, variable: str, swap: bool) -> float:
    """Share of pairs of all values for which every readout is what the program says, after exchanging what lies in the
    true subspace of a variable (`swap`), or everything else."""
    world = COMPILED[variable.partition(".")[0]]
    records = list(world.generate(150, seed=8))
    rows = np.linalg.svd(directions(config.name, config.seed, variable, world.VARIABLES[variable]))[2]
    inside = torch.from_numpy(rows[: len(world.VARIABLES[variable])]).float()
    right = []
    for value in world.VARIABLES[variable]:
        for pair in world.interchange_pairs(records, variable, value, 8, seed=2):
            base, source = pair.text.split(), pair.source_text.split()
            at = base.index(DELIMITER)
            x_base = at_site(model, [base])[0, at]
            difference = at_site(model, [source])[0, source.index(DELIMITER)] - x_base
            part = difference @ inside.T @ inside

            def edit(x: torch.Tensor, at: int = at, delta: torch.Tensor = part if swap else difference) -> torch.Tensor:
                x = x.clone()
                x[0, at] += delta
                return x

            with splice(model, SITE, edit):
                answers = model(tokens([base]), use_cache=False).logits[0, -7:-1].argmax(dim=-1)
            right.append([VOCABULARY[i] for i in answers] == base[-6:])
    assert len(right) == 8 * len(world.VARIABLES[variable])
    return float(np.mean(right))


@pytest.mark.parametrize("variable", ["brackets_a.depth", "brackets_f.depth", "brackets_d.top", "brackets_c.operation"])
def test_swapping_the_true_subspace_does_what_the_program_says_and_swapping_everything_never(variable: str) -> None:
    config = ModelConfig(name="compiled")
    model = load_model(config)
    assert accuracy(model, config, variable, swap=True) == 1.0
    assert accuracy(model, config, variable, swap=False) == 0.0


def test_what_reads_the_site_from_elsewhere_spans_the_codes_and_no_more(
    model: PreTrainedModel, config: ModelConfig
) -> None:
    site = registers(config.name, config.seed).site
    keys_and_values = model.transformer.h[SITE.layer + 1].attn.c_attn.weight.detach().double().numpy()[:, 216:]
    rank = np.linalg.matrix_rank(keys_and_values, tol=1e-3)
    assert rank == len(site) == {"compiled": 88, "compressed": 64}[config.name]
    assert np.abs(keys_and_values - site.T @ (site @ keys_and_values)).max() < 1e-4


def test_codes_in_superposition_are_as_incoherent_as_they_come_and_still_read_apart() -> None:
    known = registers("compressed", 0)
    codes = np.stack([known.code[name] for name in CODED])
    assert 1.25 <= len(codes) / np.linalg.matrix_rank(codes) <= 1.5
    cosines = np.abs(codes @ codes.T - np.eye(len(codes)))
    welch = np.sqrt((88 - 64) / (64 * 87))
    assert welch < cosines.max() < 1.5 * welch
    random_rows = np.random.default_rng(0).standard_normal((88, 64))
    random_rows /= np.linalg.norm(random_rows, axis=1, keepdims=True)
    assert np.abs(random_rows @ random_rows.T - np.eye(88)).max() > 3 * cosines.max()
    x, factors = [], []
    for _, held in states():
        if ("kind", DELIMITER) in held:
            row = sum(strength * known.code[name] for name, strength in held.items()) @ known.site.T
            x.append(row * HELD**0.5 / np.linalg.norm(row))
            factors.append([held.get(name, 0.0) for name in CODED if name[0] != "kind"])
    read = np.array(x) @ np.stack([known.reader[name] for name in CODED if name[0] != "kind"], axis=1)
    assert np.abs(read - factors).max() < 0.15


def test_another_seed_turns_the_directions_and_changes_no_answer(config: ModelConfig) -> None:
    other = load_model(config.model_copy(update={"seed": 7}))
    rng = random.Random(3)
    programs = [program for program in (MACHINES[5].draw(rng) for _ in range(400)) if len(program) == 12]
    assert programs and wrong(other, MACHINES[5], programs) == 0
    one, two = (np.stack([*registers(config.name, seed).code.values()]) for seed in (0, 7))
    assert np.abs(one @ two.T).max() < 0.4
    again = load_model(config.model_copy(update={"seed": 7}))
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), again.state_dict().values(), strict=True))


def test_its_random_twin_is_of_the_same_shape_and_knows_nothing(model: PreTrainedModel, config: ModelConfig) -> None:
    twin = random_twin(config, seed=1)
    assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    programs = list(every_program(MACHINES[0], 2))
    assert wrong(twin, MACHINES[0], programs) == len(programs)


def test_incoherent_unit_vectors_in_their_own_number_of_dimensions_are_orthogonal() -> None:
    rows = incoherent(12, 12, np.random.default_rng(0))
    assert np.abs(rows @ rows.T - np.eye(12)).max() < 1e-6
