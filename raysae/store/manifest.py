"""What a folder holds. The manifest is written last and atomically: its existence means the folder is complete.

While a stage runs, every finished block has a receipt beside it (`<block>.json`, written after the block's own rename),
so that a stage killed at any moment redoes only the blocks that have none. Readers never list folders; they read what
the manifest names.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from raysae.errors import BadInput, Refused
from raysae.store.atomic import beside, move, sha256_file, sweep, sync, write_atomic

MANIFEST = "manifest.json"


class BlockInfo(BaseModel):
    """One immutable file."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Name of the work the block holds, never of the worker that made it."""
    file: str
    """Path relative to the manifest."""
    rows: int
    bytes: int
    sha256: str
    fingerprint: str
    """Of the configuration that made it: a left-over of another configuration is not taken for a finished block."""
    facts: dict[str, Any] = {}
    """Stage-specific: split, tokens, statistics, shapes."""


class Manifest(BaseModel):
    """The table of contents of a finished folder."""

    model_config = ConfigDict(frozen=True)

    kind: str
    """`corpus`, `tokens`, `labels`, `activations`, `sae`, `metrics`."""
    fingerprint: str
    """Of the configuration and everything upstream that determined the content."""
    blocks: tuple[BlockInfo, ...]
    provenance: dict[str, Any] = {}
    """Versions, seeds, hashes of inputs."""
    extra: dict[str, Any] = {}
    """Stage-specific facts about the whole folder."""

    @property
    def rows(self) -> int:
        return sum(block.rows for block in self.blocks)

    @property
    def bytes(self) -> int:
        return sum(block.bytes for block in self.blocks)

    def write(self, folder: Path) -> None:
        """Create-exclusive: of two drivers finishing the same folder one wins, and the other finds equal content.

        Raises Refused if a manifest of another content is already there.
        """
        path = folder / MANIFEST
        with beside(path) as temporary:
            temporary.write_bytes(self.model_dump_json(indent=1).encode())
            sync(temporary)
            try:
                os.link(temporary, path)
            except FileExistsError:
                if Manifest.read(folder).model_dump(exclude={"provenance"}) != self.model_dump(exclude={"provenance"}):
                    raise Refused(
                        f"{path} was written by another run with other content; nothing was overwritten"
                    ) from None
        sync(folder)
        sweep(folder)

    @staticmethod
    def exists(folder: Path) -> bool:
        return (folder / MANIFEST).is_file()

    @staticmethod
    def read(folder: Path) -> "Manifest":
        path = folder / MANIFEST
        try:
            return Manifest.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise BadInput(
                f"{folder} has no {MANIFEST}", "a finished folder has one", "run the stage that makes it"
            ) from None
        except ValidationError as error:
            raise BadInput(
                f"{path} is not a manifest of raysae ({error.errors()[0]['msg']})",
                "allowed: the file the stage wrote",
                f"remove {folder} and run again",
            ) from error

    def problems(self, folder: Path) -> list[str]:
        """Re-hash every block; one line per missing or changed file."""
        found: list[str] = []
        for block in self.blocks:
            path = folder / block.file
            if not path.is_file():
                found.append(f"{path}: missing")
            elif (digest := sha256_file(path)) != block.sha256:
                found.append(f"{path}: sha256 is {digest[:16]}..., the manifest says {block.sha256[:16]}...")
        return found


def write_block(
    folder: Path,
    name: str,
    suffix: str,
    fingerprint: str,
    rows: int,
    write: Callable[[Path], object],
    learnt: Callable[[], dict[str, Any]] = dict,
    **facts: Any,
) -> BlockInfo:
    """Write `<name><suffix>` through a temporary file, then its receipt. Doing it twice gives the same files.

    `learnt` gives the facts that are known only once it is written.
    """
    path = folder / f"{name}{suffix}"
    sweep(folder)
    with beside(path) as temporary:
        write(temporary)
        info = BlockInfo(
            name=name,
            file=path.name,
            rows=rows,
            bytes=temporary.stat().st_size,
            sha256=sha256_file(temporary),
            fingerprint=fingerprint,
            facts=facts | learnt(),
        )
        if finished := finished_blocks(folder, [name], fingerprint):
            return finished[name]  # by another driver in the meantime: a finished block is not touched again
        move(temporary, path)
    write_atomic(folder / f"{name}.json", info.model_dump_json(indent=1).encode())
    return info


def describe_file(path: Path, fingerprint: str, rows: int = 1) -> BlockInfo:
    """The manifest entry of a file that is already in its place."""
    return BlockInfo(
        name=path.stem,
        file=path.name,
        rows=rows,
        bytes=path.stat().st_size,
        sha256=sha256_file(path),
        fingerprint=fingerprint,
    )


def finished_blocks(folder: Path, names: Iterable[str], fingerprint: str) -> dict[str, BlockInfo]:
    """The blocks among `names` whose receipt is of `fingerprint` and whose file has the recorded size."""
    finished: dict[str, BlockInfo] = {}
    for name in names:
        receipt = folder / f"{name}.json"
        if not receipt.is_file():
            continue
        try:
            info = BlockInfo.model_validate_json(receipt.read_bytes())
        except ValidationError:
            continue  # a foreign file under this name: the block is made again and the receipt replaced
        path = folder / info.file
        if info.fingerprint == fingerprint and path.is_file() and path.stat().st_size == info.bytes:
            finished[name] = info
    return finished


def holds(folder: Path, fingerprint: str | None = None) -> bool:
    """Whether finished work lies in `folder`.

    BadInput where it is of another fingerprint, or a file is not there as it was written: nothing is built on that.
    Sizes are compared; `Manifest.problems` reads every byte.
    """
    if not Manifest.exists(folder):
        return False
    manifest, path = Manifest.read(folder), folder / MANIFEST
    if fingerprint is not None and manifest.fingerprint != fingerprint:
        raise BadInput(
            f"{path} is of another configuration ({manifest.fingerprint[:16]}..., this one is {fingerprint[:16]}...)",
            "allowed: what this experiment made itself",
            f"move {folder} away and run again",
        )
    for block in manifest.blocks:
        file = folder / block.file
        size = file.stat().st_size if file.is_file() else 0
        if size != block.bytes:
            alone = (folder / f"{block.name}.json").is_file()
            raise BadInput(
                f"{file} has {size:,} bytes, {MANIFEST} says {block.bytes:,}",
                "allowed: the file that was written",
                f"remove {path} and run again to make it anew" if alone else f"move {folder} away and run again",
            )
    return True
