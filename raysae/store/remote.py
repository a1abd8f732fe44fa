"""A place on an object store, by its URL: what lies there, and copies to and fro. OSError where it does not answer."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from raysae.errors import BadInput, Unreachable
from raysae.store.atomic import beside, move
from raysae.types.place import url_of

CURE = "type the keys into the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL ...)"


class Seen(NamedTuple):
    """An object as the store lists it."""

    bytes: int
    changed: float
    """Seconds since 1970, by the store's clock."""


class Remote:
    """Where the working copy `here` belongs. Keys, endpoint and region come from the environment, as every tool of the
    store reads them, or from the machine's role."""

    def __init__(self, here: Path) -> None:
        from pyarrow.fs import FileSystem

        url = url_of(here)
        if url is None:
            raise ValueError(f"{here} is no working copy")
        self.here, self.url = here, url
        self.files, self.base = FileSystem.from_uri(url)

    def listing(self) -> dict[str, Seen]:
        """Name -> what lies there, at any depth."""
        from pyarrow.fs import FileSelector

        found = self.files.get_file_info(FileSelector(self.base, recursive=True, allow_not_found=True))
        return {
            info.path.removeprefix(f"{self.base}/"): Seen(info.size, info.mtime.timestamp())
            for info in found
            if info.is_file
        }

    def look(self, name: str) -> Seen | None:
        info = self.files.get_file_info(f"{self.base}/{name}")
        return Seen(info.size, info.mtime.timestamp()) if info.is_file else None

    def read(self, name: str) -> bytes:
        """Nothing, where nothing lies."""
        if self.look(name) is None:
            return b""
        with self.files.open_input_stream(f"{self.base}/{name}") as stream:
            return stream.read()

    def write(self, name: str, data: bytes) -> None:
        self._make_room(name)
        with self.files.open_output_stream(f"{self.base}/{name}") as stream:
            stream.write(data)

    def fetch(self, name: str, seen: Seen) -> None:
        """Into the working copy, wholly or not at all, as old as it is there; nothing, if it is gone by now."""
        from pyarrow.fs import LocalFileSystem, copy_files

        with suppress(FileNotFoundError), beside(self.here / name) as temporary:
            copy_files(f"{self.base}/{name}", str(temporary), self.files, LocalFileSystem())
            os.utime(temporary, (seen.changed, seen.changed))
            move(temporary, self.here / name)

    def send(self, name: str) -> None:
        """From the working copy; FileNotFoundError for one that is gone by now."""
        from pyarrow.fs import LocalFileSystem, copy_files

        self._make_room(name)
        copy_files(str(self.here / name), f"{self.base}/{name}", LocalFileSystem(), self.files)

    def remove(self, name: str) -> None:
        if self.look(name) is not None:
            self.files.delete_file(f"{self.base}/{name}")

    def _make_room(self, name: str) -> None:
        """Object stores know no folders; the file system that stands for one does."""
        if self.files.type_name == "local":
            Path(f"{self.base}/{name}").parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def at_first(url: str) -> Iterator[None]:
    """What the store says to the first question is about the address and the keys: BadInput."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{url}: {reason(error)}", "allowed: a place this machine may read and write", CURE) from error


@contextmanager
def later(url: str, here: Path) -> Iterator[None]:
    """Later it is about the network: Unreachable, and nothing is lost."""
    try:
        yield
    except OSError as error:
        raise Unreachable(url, reason(error), here) from error


def reason(error: Exception) -> str:
    """What it says, in one line."""
    return " ".join(str(error).split()).rstrip(".")
