"""What every corpus has in common: the row of the table, where rows come from, and a row that could not be used."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from raysae.types import CorpusRecord, Split
from raysae.types.experiment import CorpusConfig


@dataclass(frozen=True)
class Source:
    """One file, or one split of a hub data set: the unit of reading. Plain values, so that it travels to any worker."""

    corpus: str
    """Key in `CORPORA`."""
    native_split: Split | None
    """The source's own split; null where it has none."""
    location: str
    """A path, or `hub:<id>@<revision>/<split>`."""
    config: str
    """The source's own configuration (GSM8K: `main` or `socratic`)."""


@dataclass(frozen=True)
class Malformed:
    """A row that cannot become a record; it goes to quarantine and is counted."""

    file: str
    line: int
    """Counted from 1."""
    reason: str
    text: str
    """The row as it came, at most 2,000 characters of it."""


@dataclass(frozen=True)
class Corpus:
    """One data set: where it is, under which terms, and the two functions that read it."""

    name: str
    hub_id: str
    revision: str
    """Pinned commit of the hub repository."""
    licence: str
    has_cot: bool
    redistribute: bool
    """Whether its terms allow normalised copies to be published."""
    variables: Mapping[str, tuple[str, ...]]
    """Labelled variables and their values; empty where the source carries no ground truth."""
    sources: Callable[[CorpusConfig], list[Source]]
    """Finds the files. BadInput when there are none, or the hub cannot be reached."""
    read: Callable[[Source, CorpusConfig], Iterator[CorpusRecord | Malformed]]
    """Streams one source in its own order; at most `config.records` records."""
