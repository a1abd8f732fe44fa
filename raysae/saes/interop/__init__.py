"""SAEs for and from other libraries: one file per library, and the table that names them.

A folder is written so that the library's own loader opens it and computes what ours computes; one that cannot say what
the SAE does is refused rather than approximated. Nothing here imports those libraries, and no pickle is read.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from raysae.errors import BadInput
from raysae.saes.base import SparseAutoencoder
from raysae.saes.interop import dictionary_learning, saelens, sparsify
from raysae.saes.interop.form import Imported


class Library(NamedTuple):
    """How one library keeps an SAE."""

    write: Callable[[SparseAutoencoder, dict[str, Any], Path], None]
    """(SAE in raw units, provenance, a new folder); BadInput if the library has no such SAE."""
    read: Callable[[Path], Imported]
    """A folder -> SAE of ours with unit decoder rows; BadInput by what is wrong with the folder."""
    files: tuple[str, ...]
    """A folder with one of these is this library's."""


LIBRARIES: dict[str, Library] = {
    "saelens": Library(saelens.write, saelens.read, saelens.FILES),
    "sparsify": Library(sparsify.write, sparsify.read, sparsify.FILES),
    "dictionary_learning": Library(dictionary_learning.write, dictionary_learning.read, dictionary_learning.FILES),
}


def library(name: str) -> Library:
    if name not in LIBRARIES:
        raise BadInput(f"--to {name}", f"allowed: {', '.join(LIBRARIES)}", "type --to saelens")
    return LIBRARIES[name]


def recognise(folder: Path) -> str:
    """Whose folder it is, by the names of its files."""
    for name, row in LIBRARIES.items():
        if any((folder / file).is_file() for file in row.files):
            return name
    known = ", ".join(file for row in LIBRARIES.values() for file in row.files)
    raise BadInput(f"{folder} holds no SAE", f"allowed: a folder with one of {known}", "give the folder of one SAE")


__all__ = ["LIBRARIES", "Imported", "Library", "library", "recognise"]
