"""What every corpus has in common: the row of the table, where rows come from, and a row that could not be used."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysae.corpora import formats, hub, layout
from raysae.corpora.layout import Files, Source
from raysae.corpora.malformed import Malformed
from raysae.types import CorpusRecord
from raysae.types.text import CorpusConfig

Rows = Iterable[tuple[int, Mapping[str, Any] | Malformed]]
"""(number from 1, row) of a file."""


@dataclass(frozen=True)
class Corpus:
    """One data set: where it is, under which terms, and how its rows become records."""

    name: str
    hub_id: str | None
    """Null for one that is read from local files only."""
    revision: str | None
    """Pinned commit of the hub repository, or the branch of its Parquet conversion."""
    licence: str
    configs: Mapping[str, tuple[Files, ...]]
    """The source's own configurations, the first by default, and the files of each."""
    rows: Mapping[str, int | str]
    """Rows by split, `config/split` where there are several; words where nobody has counted."""
    has_cot: bool
    redistribute: bool
    """Whether its terms allow normalised copies to be published."""
    normalise: Callable[[Rows, Source, CorpusConfig], Iterator[CorpusRecord | Malformed]]
    """Rows of one file -> records, in the order of the file."""
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Labelled variables and their values; empty where the source carries no ground truth."""
    read_answer: Callable[[str], str | None] | None = None
    """The final answer in a solution that a model wrote, as records give it; null where the corpus is no benchmark."""
    gated: bool = False
    """Whether the hub asks for a login and for consent to terms."""
    eval_only: bool = False
    """Whether its terms forbid training: every record is TEST, and every problem it shares with another corpus."""

    def sources(self, config: CorpusConfig) -> list[Source]:
        """The files to read, in order. BadInput when there are none, or the hub cannot be reached."""
        chosen = layout.choose_configs(self.name, tuple(self.configs), config)
        path = layout.local_path(self.name, config)
        if path is None:
            patterns = [pattern for name in chosen for files in self.configs[name] for pattern in files.patterns]
            path = hub.snapshot(self.name, self.hub_id, self.revision, patterns, gated=self.gated)
        found = layout.find(self.name, self.configs, chosen, path)
        for source in found:
            formats.check_kind(Path(source.location))
        return found

    def read(self, source: Source, config: CorpusConfig) -> Iterator[CorpusRecord | Malformed]:
        """Stream one file in its own order: at most `config.records` records, and every malformed row met before."""
        taken = 0
        for item in self.normalise(formats.rows(Path(source.location)), source, config):
            yield item
            taken += isinstance(item, CorpusRecord)
            if config.records is not None and taken >= config.records:
                return


__all__ = ["Corpus", "Files", "Malformed", "Rows", "Source"]
