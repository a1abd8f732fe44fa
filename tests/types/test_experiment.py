"""The experiment file: what it refuses, and what is part of its identity."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysae.errors import BadInput
from raysae.types import Experiment, HookPoint
from raysae.types.experiment import canonical_json, fingerprint, stream_seed
from raysae.types.loading import beside, load, load_phases


def write(folder: Path, text: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(text)
    return path


def test_an_experiment_is_named_after_its_file_unless_it_says_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 3\n")
    assert load(path).name == "x"
    assert load(path, ["name=y"]).name == "y"
    assert load(path).seed == 3


def test_overrides_reach_nested_keys_and_parse_yaml_values(tmp_path: Path) -> None:
    path = write(tmp_path, "sae: {k: 4}\n")
    changed = load(
        path, ["sae.k=32", "capture.hookpoints=[layers.2.mlp_hidden]", "loss.l1=1e-3", "model.randomize=true"]
    )
    assert changed.sae.k == 32
    assert changed.capture.hookpoints == (HookPoint(layer=2, site="mlp_hidden"),)
    assert changed.loss.l1 == pytest.approx(1e-3)
    assert changed.model.randomize is True


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("sea: 1\n", [], "unknown key 'sea'"),
        ("sae: {kk: 1}\n", [], "unknown key 'sae.kk'"),
        ("seed: 1\nseed: 2\n", [], "duplicate key 'seed'"),
        ("sae: {k: 1, k: 2}\n", [], "duplicate key 'k'"),
        ("[1, 2]\n", [], "holds a list"),
        ("seed: [\n", [], "allowed: plain YAML"),
        ("seed: 0\n", ["sae.k"], "override 'sae.k'"),
        ("seed: 0\n", ["seed.k=1"], "seed is not a section"),
        ("sae: {k: 0}\n", [], "sae.k=0"),
        ("capture: {hookpoints: [layers.1.attention]}\n", [], "allowed: layers.<N>.<site>"),
        ("capture: {hookpoints: []}\n", [], "at least one hook point"),
        ("train: {seeds: [1, 1]}\n", [], "repeats a seed"),
        ("train: {workers: 4}\n", [], "does not divide train.shards=2"),
        ("corpus: {splits: {fit: 0.6, test: 0.5}}\n", [], "leaves nothing for TRAIN"),
        ("sae: {hookpoint: layers.0.mlp_out}\n", [], "is not captured"),
        ("loss: {temporal_form: fixed}\n", [], "temporal_form"),
        ("activations: {mode: disk}\n", [], "activations.mode='disk'"),
    ],
)
def test_bad_input_is_one_line_with_three_parts(tmp_path: Path, text: str, overrides: list[str], said: str) -> None:
    with pytest.raises(BadInput) as error:
        load(write(tmp_path, text), overrides)
    message = str(error.value)
    assert said in message
    assert "\n" not in message
    assert message.count("; ") >= 2


def test_a_missing_file_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file.*raysae run"):
        load(tmp_path / "nothing.yaml")


def test_how_a_run_is_carried_out_is_not_part_of_what_it_is() -> None:
    plain = Experiment(name="a")
    elsewhere = Experiment.model_validate(
        {
            "name": "b",
            "out": "/x",
            "capture": {"actors": 7},
            "train": {"workers": 1, "checkpoint_steps": 3},
            "sweep": {"concurrent": 5},
        }
    )
    assert plain.fingerprint() == elsewhere.fingerprint()


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"sae": {"k": 9}}, {"model": {"randomize": True}}, {"train": {"seeds": 3}}]
)
def test_what_a_run_is_changes_its_fingerprint(change: dict[str, object]) -> None:
    assert Experiment(name="a").fingerprint() != Experiment.model_validate({"name": "a", **change}).fingerprint()


def test_named_streams_of_one_seed_never_coincide() -> None:
    seeds = {stream_seed(seed, f"stream-{name}") for seed in range(50) for name in range(50)}
    assert len(seeds) == 2500
    assert all(0 <= seed < 2**63 for seed in seeds)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_equal_values_have_equal_canonical_text_whatever_their_order(value: dict[str, object]) -> None:
    turned = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(turned)
    assert fingerprint(value) == fingerprint(turned)


def test_hook_points_print_as_they_parse() -> None:
    for text in ("layers.0.resid_post", "layers.31.mlp_hidden", "layers.4.mlp_out"):
        assert str(HookPoint.parse(text)) == text


def test_a_rival_differs_in_what_it_names_and_in_nothing_else() -> None:
    experiment = Experiment.model_validate(
        {"name": "x", "rivals": {"relu_l1": {"architecture": "relu", "l1": 0.5}, "plain": {"k_anneal_fraction": 0}}}
    )
    relu, plain = experiment.arm("relu_l1"), experiment.arm("plain")
    assert (relu.sae.architecture, relu.loss.l1, relu.train) == ("relu", 0.5, experiment.train)
    assert relu.sae.k == experiment.sae.k
    assert (plain.sae, plain.loss, plain.train.k_anneal_fraction) == (experiment.sae, experiment.loss, 0)
    assert experiment.arm("main") is experiment


def test_what_is_run_beside_an_experiment_is_that_experiment_with_some_keys_changed(tmp_path: Path) -> None:
    text = """
    seed: 4
    model: {name: rotated, seed: 2}
    rivals: {relu_l1: {architecture: relu}}
    protocol: {phase: 1, mode: confirmatory}
    beside: {wide: {model: {width: 300}, rivals: {}}}
    """
    experiment = load(write(tmp_path, text), ["name=whole"])
    (wide,) = beside(experiment)
    assert (wide.name, wide.out, wide.seed, wide.beside) == ("whole-wide", experiment.out, 4, {})
    assert wide.model == experiment.model.model_copy(update={"width": 300})
    assert wide.rivals == {}
    assert (wide.protocol.phase, wide.protocol.mode) == (None, "confirmatory"), "it opens no gate"
    assert experiment.fingerprint() == experiment.model_copy(update={"beside": {}}).fingerprint()
    with pytest.raises(
        BadInput, match=r"unknown key 'rivals\.a\.k'; allowed here: architecture, k_anneal_fraction, l1"
    ):
        load(write(tmp_path, "rivals: {a: {k: 1}}"))
    with pytest.raises(BadInput, match=r"unknown key 'beside\.a\.model\.wide'"):
        load(write(tmp_path, "beside: {a: {model: {wide: 1}}}"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("phases: []", "lists no phases; allowed: phases: [first.yaml, second.yaml]"),
        ("phases: [one.yaml]\nseed: 1", "lists no phases"),
        ("phases: [two.yaml, one.yaml]", "lists phases 2, 1; allowed: each once, in ascending order"),
        ("phases: [one.yaml, one.yaml]", "lists phases 1, 1"),
        ("phases: [one.yaml, none.yaml]", "lists phases 1, None"),
        ("phases: [one.yaml, three.yaml]", "three.yaml: no such file"),
    ],
)
def test_a_file_of_phases_is_held_to_their_order(tmp_path: Path, text: str, said: str) -> None:
    for name, phase in (("one", 1), ("two", 2), ("none", "null")):
        (tmp_path / f"{name}.yaml").write_text(f"protocol: {{phase: {phase}}}")
    with pytest.raises(BadInput, match=re.escape(said)):
        load_phases(write(tmp_path, text))


def test_phases_are_read_from_beside_their_file_and_overridden_together(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    for name, phase in (("one", 1), ("deeper/two", 2)):
        (tmp_path / f"{name}.yaml").write_text(f"protocol: {{phase: {phase}}}")
    found = load_phases(write(tmp_path, "phases: [one.yaml, deeper/two.yaml]"), ["seed=3"])
    assert [(one.name, one.seed, one.protocol.phase) for one in found] == [("one", 3, 1), ("two", 3, 2)]
    with pytest.raises(BadInput, match="share the folder"):
        load_phases(tmp_path / "x.yaml", ["name=same"])
    assert load_phases(tmp_path / "one.yaml") == [load(tmp_path / "one.yaml")]
