"""What is fixed before anything is captured or trained: a frozen record, its hash, and the file it is sealed in.

`draft` fills it from an experiment and the facts of its data, `seal` writes it once, `read` refuses a file that was
changed.
"""

import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from raysae.errors import Refused
from raysae.falsification.criteria import choose_criteria, judges_capture
from raysae.falsification.criterion import MEMORY_RUNS, PARTS, SWEEP_RULE, Criterion
from raysae.falsification.intervals import minimum_detectable, minimum_detectable_mean
from raysae.falsification.nulls import Null, choose_nulls
from raysae.falsification.phases import NOTHING, Footing
from raysae.types.experiment import Experiment, canonical_json
from raysae.types.overhead import OverheadConfig
from raysae.types.record import PhaseLink

_PRINTS = ("report", "costs", "cli.py", "terminal.py", "__main__.py")
"""What of the package reads results and prices and changes none."""
_DEPENDENCIES = ("numpy", "scipy", "torch", "transformers", "ray", "pyarrow", "pydantic")


class Protocol(BaseModel):
    """Everything a verdict depends on and that may not be chosen after looking (SCIENCE 0.7)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Literal[1] = 1
    experiment: str
    """Name of the run."""
    fingerprint: str
    """Of the experiment."""
    mode: Literal["exploratory", "confirmatory"]
    criteria: tuple[Criterion, ...]
    """Whole rows: definition, threshold, reading, rivals, nulls."""
    nulls: tuple[Null, ...]
    observations: tuple[str, ...] = ()
    """Measured beside the criteria, without a verdict."""
    stand_in: str | None = None
    """The null in the real arm's place; what is decided is then about the protocol."""
    alive_rate: float
    """A latent is alive if it fires on more than this share of FIT tokens."""
    l0_cap: float
    splits: dict[str, str]
    """SHA-256 of the content of each split."""
    seeds: tuple[int, ...]
    """Independent SAEs; none where capture itself is judged."""
    bootstrap: int
    permutations: int
    pairs: int
    """Interchange pairs per variable value."""
    latents_per_value: int
    least_f1: float
    attributed_latents: int
    """Denominator of causal_attribution."""
    attribution_sites: int
    attribution_window: int
    answer_shots: int = 0
    """Solved TRAIN problems before each problem of a benchmark."""
    answer_tokens: int = 256
    alpha: float = 0.05
    """Of every one-sided bound."""
    test_documents: int
    """TEST documents the spliced forward passes read."""
    activation_documents: int
    """TEST documents the activation metrics read."""
    factors: tuple[str, ...]
    """Denominator of alignment."""
    dropped_factors: dict[str, str] = {}
    """Factors that the audit of the labels left out, with the reason."""
    causal_units: tuple[str, ...]
    """Denominator of causal_interchange: `variable=value`."""
    transfer_from: str | None = None
    """SHA-256 of the SAEs of another run that transfer judges on this one's text; null where it is not asked."""
    map_from: str | None = None
    """SHA-256 of the run on another model whose latents transfer_map looks for; null where none is named."""
    overhead: OverheadConfig | None = None
    """How the cost of capture is measured; null where SAEs are judged."""
    exclusions: tuple[str, ...] = ()
    """Rules by which tokens or documents are left out; empty: none are."""
    sweep_rule: str | None
    """How the sweep chooses; null where there is no sweep."""
    sae: dict[str, Any] | str
    """The configuration, or that the sweep rule chooses it on FIT."""
    model_sha256: str
    tokenizer_sha256: str
    commit: str | None
    source_sha256: str
    """Of every Python file that a number or a decision depends on."""
    versions: dict[str, str]
    packages_sha256: str
    """Of the names and versions of every installed package."""
    minimum_detectable: dict[str, float | None]
    """True value nearest to the threshold that is shown with 80 % power, per criterion whose power can be planned."""
    phase: int | None = None
    """Place in the order of phases; its GO opens the gate of the next one."""
    overrides: tuple[str, ...] = ()
    """Why this phase, or one it stands on, was started without a GO of the phase before."""
    chain: tuple[PhaseLink, ...] = ()
    """What this phase stands on, from the first."""

    @property
    def sha256(self) -> str:
        return _digest(_plain(self.model_dump(mode="json")))

    def planned_n(self, criterion: str) -> int:
        """Registered units of a criterion."""
        return {
            "alignment": len(self.factors),
            "causal_interchange": len(self.causal_units),
            "causal_attribution": self.attributed_latents,
            "fidelity": self.test_documents,
            "redundancy": len(self.seeds),
            "stability": len(self.seeds),
            "capture_latency": self.overhead.blocks if self.overhead else 0,
            "capture_throughput": PARTS,
            "capture_memory": MEMORY_RUNS,
        }.get(criterion, self.activation_documents)


def draft(
    experiment: Experiment,
    *,
    l0_cap: float,
    splits: Mapping[str, str],
    test_documents: int,
    activation_documents: int,
    factors: tuple[str, ...],
    dropped_factors: Mapping[str, str],
    causal_units: tuple[str, ...],
    model_sha256: str,
    tokenizer_sha256: str,
    commit: str | None,
    transfer_from: str | None = None,
    map_from: str | None = None,
    exclusions: tuple[str, ...] = (),
    footing: Footing = NOTHING,
) -> Protocol:
    """A protocol from an experiment and the facts of its data. Raises BadInput for an unknown criterion or null."""
    config = experiment.protocol
    criteria = choose_criteria(config.criteria)
    capture, sweeps = judges_capture(config.criteria), experiment.sweep.trials > 0
    sae = "chosen by the sweep rule on FIT" if sweeps else experiment.sae.model_dump(mode="json")
    unpowered = Protocol(
        experiment=experiment.name,
        fingerprint=experiment.fingerprint(),
        mode=config.mode,
        criteria=criteria,
        nulls=choose_nulls(config.nulls),
        observations=config.observations,
        stand_in=config.stand_in,
        alive_rate=config.alive_rate,
        l0_cap=l0_cap,
        splits=dict(splits),
        seeds=() if capture else experiment.train.seed_numbers,
        bootstrap=config.bootstrap,
        permutations=config.permutations,
        pairs=config.pairs,
        latents_per_value=config.latents_per_value,
        least_f1=config.least_f1,
        attributed_latents=config.attributed_latents,
        attribution_sites=config.attribution_sites,
        attribution_window=config.attribution_window,
        answer_shots=config.answer_shots,
        answer_tokens=config.answer_tokens,
        test_documents=test_documents,
        activation_documents=activation_documents,
        factors=factors,
        dropped_factors=dict(dropped_factors),
        causal_units=causal_units,
        transfer_from=transfer_from,
        map_from=map_from,
        overhead=experiment.overhead if capture else None,
        exclusions=exclusions,
        sweep_rule=SWEEP_RULE if sweeps else None,
        sae="none is trained" if capture else sae,
        model_sha256=model_sha256,
        tokenizer_sha256=tokenizer_sha256,
        commit=commit,
        source_sha256=source_sha256(),
        versions={name: importlib.metadata.version(name) for name in _DEPENDENCIES},
        packages_sha256=_packages_sha256(),
        minimum_detectable={},
        phase=config.phase,
        overrides=footing.overrides,
        chain=footing.chain,
    )
    effects = {
        row.name: detectable(row, unpowered.planned_n(row.name), len(unpowered.seeds), unpowered.alpha)
        for row in criteria
        if row.statistic == "proportion" or row.planning_sd is not None
    }
    return unpowered.model_copy(update={"minimum_detectable": effects})


def detectable(criterion: Criterion, n: int, seeds: int, alpha: float) -> float | None:
    """The true value nearest to the threshold that is shown with 80 % power; None if none is, or its spread is not
    registered."""
    if criterion.statistic == "proportion":
        return minimum_detectable(criterion.threshold, n, alpha=alpha)
    if criterion.planning_sd is None:
        return None
    return minimum_detectable_mean(criterion.threshold, criterion.direction, criterion.planning_sd, seeds, alpha=alpha)


def source_sha256() -> str:
    """SHA-256 over the names and bytes of every Python file of raysae but those that only print: the definitions, and
    what captures, trains, edits and measures for them.

    A typing error in the report or on the command line may be mended between a seal and its verdict. Nothing else may:
    which part of the rest reached a number is not for the one who changed it to say.
    """
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] in _PRINTS:
            continue
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@cache
def _packages_sha256() -> str:
    # Ray and setuptools, once anything imports them, put what they carry on the path: a seal must not hang on who did.
    path = [place for place in sys.path if Path(place).name in ("site-packages", "dist-packages")]
    installed = {(found.name.lower(), found.version) for found in importlib.metadata.distributions(path=path)}
    return hashlib.sha256("\n".join(f"{name}=={version}" for name, version in sorted(installed)).encode()).hexdigest()


def seal(protocol: Protocol, path: Path) -> str:
    """Write the protocol once, return its hash. Sealing an equal protocol again changes nothing; Refused for
    another."""
    sha256 = protocol.sha256
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(sealed_text(protocol))
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # Fails where a file already is: of two writers one wins.
    except FileExistsError:
        stored = read(path).sha256
        if stored != sha256:
            raise Refused(
                f"{path} is sealed as {stored[:16]}..., this protocol is {sha256[:16]}...; a sealed protocol is "
                "never changed; give the run another name"
            ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return sha256


def sealed_text(protocol: Protocol) -> bytes:
    """What a sealed file holds: the protocol and its hash."""
    tree = {"sha256": protocol.sha256, "protocol": _plain(protocol.model_dump(mode="json"))}
    return (json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode()


def read(path: Path) -> Protocol:
    """The sealed protocol. Raises Refused if it is missing, unreadable, or not what its stored hash says."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        sha256, tree = stored["sha256"], stored["protocol"]
        protocol = Protocol.model_validate(tree)
    except FileNotFoundError:
        raise Refused(
            f"{path}: there is no sealed protocol; allowed: a run sealed before it was trained; run it from the start"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else f"{type(error).__name__} {error}"
        raise Refused(
            f"{path} is not a sealed protocol ({what}); run the experiment again under another name"
        ) from error
    # Both what is in the file and what was understood of it must be what was sealed.
    for found in (_digest(tree), protocol.sha256):
        if found != sha256:
            raise Refused(
                f"{path}: the content hashes to {found[:16]}..., the seal says {str(sha256)[:16]}...; it was "
                "changed after sealing; run the experiment again under another name"
            )
    return protocol


def _digest(tree: Any) -> str:
    return hashlib.sha256(canonical_json(tree).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Numbers that JSON would write in scientific notation become their digits as text (SCIENCE 0.7); pydantic reads
    both."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and "e" in repr(value):
        return format(Decimal(repr(value)), "f")
    return value
