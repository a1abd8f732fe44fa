"""One SAE of a run -> a folder another library opens, with its card; and such a folder -> an SAE folder of ours."""

from pathlib import Path

from raysae.errors import BadInput
from raysae.models.registry import MODELS
from raysae.saes import SparseAutoencoder, checkpoint
from raysae.saes.card import card
from raysae.saes.interop import library, recognise
from raysae.stages.capture import MAIN
from raysae.store import write_atomic
from raysae.types import Verdict


def export(source: Path, to: str, out: Path, arm: str = MAIN, seed: int | None = None) -> SparseAutoencoder:
    """Write the SAE (arm, seed) of the run folder `source`, or the SAE folder `source` itself, to the new folder `out`.

    `seed` null takes the first. BadInput if it is not there, if the library has no such SAE, or if `out` is in use.
    """
    written = library(to)
    folder = source if (source / checkpoint.CONFIG).is_file() else _chosen(source, arm, seed)
    sae = checkpoint.load(folder)
    _check_free(out)
    provenance = checkpoint.provenance(folder)
    name = provenance.get("model_name")
    base = MODELS[name].hub_id if name in MODELS else None
    path = source / "verdict.json"
    verdict = Verdict.model_validate_json(path.read_bytes()) if path.is_file() else None
    written.write(sae, provenance, out)
    write_atomic(out / "README.md", card(sae, provenance, to, out.name, base, verdict).encode())
    return sae


def bring_in(source: Path, out: Path) -> tuple[SparseAutoencoder, str]:
    """Write the SAE of another library's folder as one of ours; (the SAE, whose it was)."""
    name = recognise(source)
    sae, provenance = library(name).read(source)
    _check_free(out)
    checkpoint.save(sae, out, provenance)
    return sae, name


def _chosen(run: Path, arm: str, seed: int | None) -> Path:
    found = (path.parent.relative_to(run / "sae") for path in (run / "sae").glob(f"*/*/{checkpoint.CONFIG}"))
    known = sorted(found, key=lambda path: (path.parts[0], len(path.parts[1]), path.parts[1]))
    if not known:
        raise BadInput(
            f"{run} holds no SAE", "allowed: a run folder with sae/<arm>/<seed>, or an SAE folder", "train one first"
        )
    wanted = [path for path in known if path.parts[0] == arm and (seed is None or path.parts[1] == str(seed))]
    if not wanted:
        there = ", ".join(map(str, known))
        raise BadInput(
            f"--arm {arm}" + ("" if seed is None else f" --seed {seed}"),
            f"there are, as <arm>/<seed>: {there}",
            f"type --arm {known[0].parts[0]} --seed {known[0].parts[1]}",
        )
    return run / "sae" / wanted[0]


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} is not empty", "allowed: a new or empty folder", "give another, or remove it")
