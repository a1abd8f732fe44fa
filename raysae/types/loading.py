"""An experiment from a YAML file and `key=value` overrides; every mistake is told in one line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from raysae.errors import BadInput
from raysae.types.experiment import Experiment


def load(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment and apply `a.b=value` overrides (values are YAML).

    Raises BadInput for a missing file, broken YAML, an unknown or repeated key, or a value out of range.
    """
    tree = _tree(path)
    if "phases" in tree:
        raise BadInput(f"{path} lists phases", "allowed here: one experiment", "type the name of a file that it lists")
    tree.setdefault("name", path.stem)
    for override in overrides:
        _override(tree, override)
    try:
        experiment = _absolute(Experiment.model_validate(tree))
    except ValidationError as error:
        raise _first_problem(error) from error
    beside(experiment)
    return experiment


def load_phases(path: Path, overrides: Sequence[str] = ()) -> list[Experiment]:
    """The experiment of a file, or all those that its one key `phases` lists, files beside it in ascending order; every
    override holds for each of them. BadInput for another order, and as in `load`."""
    tree = _tree(path)
    if "phases" not in tree:
        return [load(path, overrides)]
    names = tree["phases"]
    if len(tree) > 1 or not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        raise BadInput(
            f"{path} lists no phases", "allowed: phases: [first.yaml, second.yaml], and no other key", f"mend {path}"
        )
    found = [load(path.parent / name, overrides) for name in names]
    phases = [experiment.protocol.phase for experiment in found]
    if None in phases or phases != sorted({phase for phase in phases if phase}):
        raise BadInput(
            f"{path} lists phases {', '.join(map(str, phases))}",
            "allowed: each once, in ascending order",
            f"mend {path}",
        )
    if len({experiment.folder for experiment in found}) < len(found):
        raise BadInput(f"the phases of {path} share the folder {found[0].folder}", "allowed: one each", "type no name=")
    return found


def _tree(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(
            f"{path}: {'a folder' if path.is_dir() else 'no such file'}",
            "an experiment is a YAML file",
            "type raysae run configs/quickstart.yaml",
        )
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeySafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path}: {' '.join(str(error).split())}",
            "allowed: plain YAML in UTF-8, without tags and with each key once",
            f"mend {path}",
        ) from error
    if not isinstance(tree, dict):
        raise BadInput(
            f"{path} holds {'nothing' if tree is None else f'a {type(tree).__name__}'}",
            "allowed: a mapping of keys",
            "see configs/quickstart.yaml",
        )
    return tree


def beside(experiment: Experiment) -> list[Experiment]:
    """The experiments that are run beside it. BadInput for a key or a value that cannot be."""
    found = []
    for name, keys in experiment.beside.items():
        own = {"name": f"{experiment.name}-{name}", "beside": {}, "protocol": {"phase": None}}
        tree = _merged(_merged(experiment.model_dump(mode="json"), keys), own)
        try:
            found.append(Experiment.model_validate(tree))
        except ValidationError as error:
            raise _first_problem(error, f"beside.{name}.") from error
    return found


def _merged(tree: dict[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Sections are merged, everything else is replaced."""
    return tree | {
        key: _merged(tree[key], value)
        if isinstance(value, dict) and value and isinstance(tree.get(key), dict)
        else value
        for key, value in keys.items()
    }


def _absolute(experiment: Experiment) -> Experiment:
    """Workers start in other directories: every path they get says where it is."""

    def whole(part: Any, name: str) -> Any:
        path = getattr(part, name)
        if isinstance(path, dict):
            return part.model_copy(update={name: {key: one.expanduser().absolute() for key, one in path.items()}})
        return part.model_copy(update={name: path and path.expanduser().absolute()})

    for section in ("corpus", "tokenizer", "model"):
        experiment = experiment.model_copy(update={section: whole(getattr(experiment, section), "path")})
    protocol = whole(whole(experiment.protocol, "transfer_from"), "map_from")
    budget = whole(experiment.budget, "prices")
    return whole(experiment.model_copy(update={"protocol": protocol, "budget": budget}), "out")


class _UniqueKeySafeLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice instead of keeping the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise BadInput(f"override {override!r}", "allowed: key=value", "type for example sae.k=16")
    *parents, leaf = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise BadInput(
                f"override {override!r}: {parent} is not a section",
                "allowed: keys of the experiment",
                "type for example sae.k=16",
            )
        tree = child
    try:
        tree[leaf] = yaml.load(text, Loader=_UniqueKeySafeLoader)
    except yaml.YAMLError as error:
        raise BadInput(
            f"override {override!r}: {' '.join(str(error).split())}",
            "allowed: a YAML value",
            "type for example sae.k=16",
        ) from error


def _first_problem(error: ValidationError, at: str = "") -> BadInput:
    """In one line; `at`: where in the file the keys stand."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    where = where and at + where
    if problem["type"] == "extra_forbidden":
        section: Any = Experiment
        for part in problem["loc"][:-1]:
            # A table of parts has a name between itself and the part.
            section = (
                section.model_fields[part].annotation if hasattr(section, "model_fields") else get_args(section)[-1]
            )
        known = ", ".join(section.model_fields)
        return BadInput(f"unknown key {where!r}", f"allowed here: {known}", "correct the name or remove it")
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        parts = [part.strip() for part in message.split(";", 2)]
        while len(parts) < 3:
            parts.append("correct the value")
        said = "" if not where or parts[0].startswith(f"{where}.") else f"{where}: "
        return BadInput(said + parts[0], parts[1], parts[2])
    allowed = message.removeprefix("Input should be ").removeprefix("String should ")
    return BadInput(f"{where}={problem['input']!r}", f"allowed: {allowed}", f"type {where}=<value>")
