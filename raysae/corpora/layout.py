"""Which files of a folder are a corpus: by name, in the layout of the hub's repository or of the raw release."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from raysae.errors import BadInput
from raysae.types import Split
from raysae.types.text import CorpusConfig


@dataclass(frozen=True)
class Files:
    """The files of one split."""

    part: str
    """Names them in record ids and blocks: `train`."""
    native_split: Split | None
    """The source's own split; null where it has none."""
    patterns: tuple[str, ...]
    """Glob patterns within the folder; the first that matches anything counts."""


@dataclass(frozen=True)
class Source:
    """One file: the unit of reading. Plain values, so that it travels to any worker."""

    corpus: str
    """Key in `CORPORA`."""
    native_split: Split | None
    location: str
    """Its path."""
    config: str
    """The source's own configuration (GSM8K: `main` or `socratic`)."""
    part: str = ""
    """Unique in the corpus: `train`, `train-00003`. Default: the native split, or `rows`."""

    def record_id(self, line: int) -> str:
        """`<corpus>/<part>/<row>`, rows counted from 0."""
        return f"{self.corpus}/{self.name}/{line - 1}"

    @property
    def name(self) -> str:
        return self.part or ("rows" if self.native_split is None else self.native_split.value.lower())


def choose_configs(corpus: str, known: tuple[str, ...], config: CorpusConfig) -> tuple[str, ...]:
    """Those of `corpus.config` that this corpus has; its first where none is named or all are another corpus's."""
    chosen = tuple(name for name in config.configs if name in known)
    if not chosen and len(config.names) == 1 and config.configs != ("main",):
        raise BadInput(
            f"corpus.config={','.join(config.configs)}",
            f"{corpus} has {', '.join(known)}",
            f"type corpus.config={known[0]}",
        )
    return chosen or known[:1]


def local_path(corpus: str, config: CorpusConfig) -> Path | None:
    """Where this corpus lies, null for the hub; with several corpora a folder of that name inside `corpus.path`."""
    path = config.path.get(corpus) if isinstance(config.path, dict) else config.path
    if path is None:
        return None
    path = Path(path).expanduser().absolute()  # a worker may stand in another folder
    inside = path / corpus
    return inside if len(config.names) > 1 and inside.exists() else path


def find(corpus: str, configs: Mapping[str, tuple[Files, ...]], chosen: tuple[str, ...], path: Path) -> list[Source]:
    """The files of the chosen configurations. BadInput says what is there and what is read."""
    if path.is_dir():
        return _in_folder(corpus, configs, chosen, path)
    if path.is_file():
        return [_of_file(corpus, configs, chosen, path)]
    raise BadInput(f"corpus.path={path}: no such file or folder", f"allowed: {_wanted(configs, chosen)}", _cure(corpus))


def _in_folder(
    corpus: str, configs: Mapping[str, tuple[Files, ...]], chosen: tuple[str, ...], folder: Path
) -> list[Source]:
    found: list[Source] = []
    used: set[Path] = set()
    for config in chosen:
        for files in configs[config]:
            matches = (sorted(set(folder.glob(pattern)) - used) for pattern in files.patterns)
            paths = [path for path in next(filter(None, matches), []) if path.is_file()]
            used.update(paths)
            for number, path in enumerate(paths):
                part = files.part if len(paths) == 1 else f"{files.part}-{number:05d}"
                found.append(Source(corpus, files.native_split, str(path), config, part))
    if not found:
        present = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        wanted = _wanted(configs, chosen)
        raise BadInput(f"corpus.path={folder} holds {present}", f"{','.join(chosen)} reads {wanted}", _cure(corpus))
    return found


def _of_file(corpus: str, configs: Mapping[str, tuple[Files, ...]], chosen: tuple[str, ...], path: Path) -> Source:
    """A file under its official name keeps its official split; any other name has none."""
    words = re.split(r"[\W_]+", path.stem)
    other = next((name for name in configs if name in words and name not in chosen), None)
    if other is not None:
        raise BadInput(
            f"corpus.path={path} is not of corpus.config={','.join(chosen)}",
            f"{','.join(chosen)} never reads {other} files",
            f"type corpus.config={other} or another corpus.path",
        )
    for config in chosen:
        for files in configs[config]:
            if any(fnmatch(path.name, pattern.rpartition("/")[2]) for pattern in files.patterns):
                return Source(corpus, files.native_split, str(path), config, files.part)
    return Source(corpus, None, str(path), chosen[0], "rows")


def _wanted(configs: Mapping[str, tuple[Files, ...]], chosen: tuple[str, ...]) -> str:
    return " or ".join(files.patterns[0] for name in chosen for files in configs[name])


def _cure(corpus: str) -> str:
    return f"type corpus.path=<a file or folder of {corpus}>"
