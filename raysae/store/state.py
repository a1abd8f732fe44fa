"""Checkpoints: each one safetensors file with a JSON header, written atomically, so that half of one never exists."""

import errno
import json
import math
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysae.errors import BadInput
from raysae.store.atomic import beside, move

if TYPE_CHECKING:  # torch is loaded when a checkpoint is, not when a finished run is looked up
    from torch import Tensor


def save_state(path: Path, tensors: "dict[str, Tensor]", header: dict[str, Any], fingerprint: str) -> None:
    """Replace the checkpoint at `path`. NoRoom where the disk is full."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with beside(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"fingerprint": fingerprint, "header": json.dumps(header)})
        except SafetensorError as error:  # of the system's error it keeps the text alone
            for code in (errno.ENOSPC, errno.EDQUOT):
                if f"(os error {code})" in str(error):
                    raise OSError(code, str(error)) from error
            raise
        move(temporary, path)


def load_state(path: Path, fingerprint: str) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """(tensors, header); BadInput for a file cut short, foreign, or of another configuration."""
    with _opened(path, fingerprint) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return tensors, json.loads(file.metadata()["header"])


@contextmanager
def _opened(path: Path, fingerprint: str) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    cure = f"remove {path} and run again"
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("fingerprint") != fingerprint:
                raise BadInput(f"{path} is a checkpoint of another configuration", "allowed: one of this run", cure)
            yield file
    except SafetensorError as error:
        raise BadInput(f"{path} cannot be read ({error})", "allowed: a whole checkpoint", cure) from error


class Checkpoints:
    """Those of one piece of work, beside the folder it will leave: the newest `keep`, and the best."""

    def __init__(self, out: Path, fingerprint: str, keep: int) -> None:
        self.out, self.fingerprint, self.keep = out, fingerprint, keep

    def path(self, age: int | str = 0) -> Path:
        """0 is the newest, 1 the one before, ...; `best` is the best."""
        return self.out.with_name(f"{self.out.name}.checkpoint{f'-{age}' if age else ''}.safetensors")

    def newest(self) -> Path | None:
        return next((self.path(age) for age in range(self.keep) if self.path(age).is_file()), None)

    def save(self, tensors: "dict[str, Tensor]", header: dict[str, Any], score: float | None) -> None:
        """Make it the newest; `score` (less is better, null: not comparable) decides about the best."""
        for age in range(self.keep - 1, 0, -1):
            if self.path(age - 1).is_file():
                _link(self.path(age - 1), self.path(age))
        save_state(self.path(), tensors, {**header, "score": score}, self.fingerprint)
        if score is not None and score < self._best_score():
            _link(self.path(), self.path("best"))

    def load(self) -> "tuple[dict[str, Tensor], dict[str, Any]] | None":
        """The newest; null if there is none, BadInput if it is damaged or foreign."""
        path = self.newest()
        return None if path is None else load_state(path, self.fingerprint)

    def remove(self) -> None:
        """And what a kill left of one that was being written."""
        for age in (*range(self.keep), "best"):
            self.path(age).unlink(missing_ok=True)
        for temporary in self.out.parent.glob(f".{self.out.name}.checkpoint*.tmp"):
            temporary.unlink(missing_ok=True)

    def _best_score(self) -> float:
        best = self.path("best")
        if not best.is_file():
            return math.inf
        with _opened(best, self.fingerprint) as file:
            return json.loads(file.metadata()["header"])["score"]


def _link(source: Path, target: Path) -> None:
    """A second name for a finished file: no byte is copied, and `target` always is one whole file or the other."""
    if target.is_file() and source.samefile(target):
        return  # after a save that ended here: to replace a name by another of the same file removes neither
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    os.link(source, temporary)
    os.replace(temporary, target)
