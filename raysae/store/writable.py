"""Places to write to, tried before there is anything to lose."""

import os
import tempfile
from pathlib import Path

from raysae.errors import BadInput


def check_writable(folder: Path, said: str, cure: str) -> None:
    """Make a folder and a file in it, and take both away again as far as they were not there. BadInput of what arrived
    (`said`) and what to type (`cure`)."""
    made = [part for part in (folder, *folder.parents) if not part.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(
            f"{said} cannot be written to ({os.strerror(error.errno or 0)})", "allowed: a folder that can be", cure
        ) from error
    finally:
        for part in made:
            if part.is_dir():
                part.rmdir()
