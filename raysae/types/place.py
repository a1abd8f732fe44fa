"""Where runs lie: a folder, or a place on an object store, which is worked on in a copy on this machine's disk."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

SCHEMES = ("s3", "gs", "file")
"""`file` is for a shared file system that is too slow to work on."""
SCRATCH = "RAYSAE_SCRATCH"
"""The environment's name for the folder of working copies; on several machines one that every node sees."""

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)
_WHOLE = re.compile(r"[^/?#@]+(/[^/?#]+)*/?")


def scratch() -> Path:
    return Path(os.environ.get(SCRATCH, "~/.cache/raysae")).expanduser().absolute()


def place(given: Any) -> Any:
    """The working copy of a URL; anything else as it is. ValueError for a URL that is none of ours."""
    found = _URL.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        return given
    scheme, rest = found.groups()
    if scheme == "file":
        rest = rest.lstrip("/")
    if scheme not in SCHEMES:
        raise ValueError(
            f"{scheme}:// is no place for runs; allowed: a folder, or {', '.join(f'{name}://' for name in SCHEMES)}; "
            "type for example s3://bucket/runs"
        )
    if not _WHOLE.fullmatch(rest) or {".", ".."} & set(rest.split("/")):
        raise ValueError(
            f"a {scheme}:// address with more than a bucket and a path; allowed: {scheme}://bucket/runs, keys and an "
            "endpoint from the environment; type for example AWS_ENDPOINT_URL=... and s3://bucket/runs"
        )
    return scratch() / scheme / rest.rstrip("/")


def url_of(path: Path) -> str | None:
    """Of a working copy or something in it; None for any other path."""
    parts = path.relative_to(scratch()).parts if path.is_relative_to(scratch()) else ()
    if len(parts) < 2 or parts[0] not in SCHEMES:
        return None
    return f"{parts[0]}://{'/' if parts[0] == 'file' else ''}{'/'.join(parts[1:])}"


Place = Annotated[Path, BeforeValidator(place)]
