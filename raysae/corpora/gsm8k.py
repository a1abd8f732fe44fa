"""GSM8K: grade-school word problems with human chains of thought whose arithmetic is annotated `<<48/2=24>>`.

Reads `train.jsonl` / `test.jsonl` (or one .jsonl file) or the hub's `openai/gsm8k`, and yields one record per row:
`text` = question, then the chain of thought without its annotations, then `#### answer`, each on its own line. The
annotations become labels on characters of that text (`gsm8k_labels`). Cobbe et al. 2021, arXiv:2110.14168.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raysae.corpora import jsonl
from raysae.corpora.base import Malformed, Source
from raysae.corpora.gsm8k_labels import Annotation, Label, answer_labels, question_labels, step_labels
from raysae.errors import BadInput
from raysae.types import CorpusRecord, LabelSpan, Split
from raysae.types.experiment import CorpusConfig

NAME = "gsm8k"
HUB_ID = "openai/gsm8k"
REVISION = "740312add88f781978c0658806c59bc2815b9866"
LICENCE = "MIT"

CONFIGS: dict[str, dict[str, Split]] = {
    "main": {"train": Split.TRAIN, "test": Split.TEST},
    "socratic": {"train_socratic": Split.TRAIN, "test_socratic": Split.TEST},
}
"""Configuration -> file stem -> native split. The two share their questions: a run reads one of them."""

_ANNOTATION = re.compile(r"<<(.*?)>>", re.DOTALL)
_THOUSANDS_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SUBQUESTION = " ** "
_CURE = "type corpus.path=<folder with train.jsonl and test.jsonl>"


def sources(config: CorpusConfig) -> list[Source]:
    """The files (or hub splits) to read, train before test. BadInput names what is missing and what to type."""
    if config.config not in CONFIGS:
        raise BadInput(f"corpus.config={config.config}", f"allowed: {', '.join(CONFIGS)}", "type corpus.config=main")
    if config.path is None:
        return _hub_sources(config.config)
    path = Path(config.path).expanduser().absolute()  # a worker may stand in another folder
    if path.is_dir():
        found = _folder_sources(path, config.config)
    elif path.is_file():
        found = [_file_source(path, config.config)]
    else:
        raise BadInput(
            f"corpus.path={path}: no such file or folder", "allowed: a folder with train.jsonl, or a .jsonl file", _CURE
        )
    for source in found:
        jsonl.check_kind(Path(source.location))
    return found


def read(source: Source, config: CorpusConfig) -> Iterator[CorpusRecord | Malformed]:
    """Stream one source in order: at most `config.records` records, and every malformed row met on the way."""
    taken = 0
    for line, row in _rows(source):
        item = row if isinstance(row, Malformed) else parse_row(row, source, line)
        yield item
        taken += isinstance(item, CorpusRecord)
        if config.records is not None and taken >= config.records:
            return


def parse_row(row: Mapping[str, Any], source: Source, line: int) -> CorpusRecord | Malformed:
    """One row -> record; Malformed, with the reason, when a column is missing, empty or of another type."""
    reason = _defect(row)
    if reason is not None:
        return Malformed(source.location, line, reason, str(dict(row))[: jsonl.KEPT_CHARACTERS])
    question, answer_raw = row["question"], row["answer"]
    reasoning, _, final = answer_raw.rpartition("####")
    answer = _THOUSANDS_COMMA.sub("", final.strip())
    lines = [_split_annotations(annotated) for annotated in reasoning.rstrip("\n").split("\n")]
    cot = "\n".join(plain for plain, _ in lines)
    text = f"{question}\n{cot}\n#### {answer}"

    spans: list[tuple[int, int]] = []
    labels = question_labels(len(question))
    extras: dict[str, Any] = {"has_cot": True, "config": source.config, "answer_raw": answer_raw, "annotations": []}
    if source.config == "socratic":
        extras["subquestions"] = []
    line_start = len(question) + 1
    for plain, annotations in lines:
        if plain.strip():
            subquestion, separator, _ = plain.partition(_SUBQUESTION) if source.config == "socratic" else ("", "", "")
            step_start = len(subquestion) + len(separator)
            spans.append((line_start + step_start, line_start + len(plain)))
            for start, end, name, value in step_labels(plain, step_start, annotations, len(spans)):
                labels.append(Label(start + line_start, end + line_start, name, value))
            extras["annotations"].append([[a.expression, a.result] for a in annotations])
            if source.config == "socratic":
                extras["subquestions"].append(subquestion if separator else "")
        line_start += len(plain) + 1
    labels += answer_labels(line_start, len(text))
    native = "rows" if source.native_split is None else source.native_split.value.lower()
    return CorpusRecord(
        record_id=f"{NAME}/{native}/{line - 1}",
        question=question,
        answer=answer,
        cot=cot,
        steps=tuple(text[start:end] for start, end in spans),
        source_dataset=NAME,
        split=source.native_split,
        licence=LICENCE,
        text=text,
        step_spans=tuple(spans),
        labels=tuple(LabelSpan(start=start, end=end, variable=name, value=value) for start, end, name, value in labels),
        extras=extras,
    )


def _defect(row: Mapping[str, Any]) -> str | None:
    for column in ("question", "answer"):
        if column not in row:
            return f"no column {column!r}; allowed: question and answer"
        if not isinstance(row[column], str):
            return f"{column} is a {type(row[column]).__name__}, not a string"
        if not row[column].strip():
            return f"{column} is empty"
        if _SURROGATE.search(row[column]):
            return f"{column} holds half of a surrogate pair, which is not text"
    reasoning, mark, final = row["answer"].rpartition("####")
    if not mark:
        return "the answer has no '####'"
    if not final.strip():
        return "nothing stands after '####'"
    if not _ANNOTATION.sub("", reasoning).strip():
        return "no reasoning stands before '####'"
    return None


def _split_annotations(line: str) -> tuple[str, list[Annotation]]:
    """The line without `<<...>>`, and each annotation with the character of the plain line at which it stood."""
    annotations: list[Annotation] = []
    removed = 0
    for match in _ANNOTATION.finditer(line):
        expression, _, result = match[1].rpartition("=")
        annotations.append(Annotation(match.start() - removed, expression, result))
        removed += len(match[0])
    return _ANNOTATION.sub("", line), annotations


def _folder_sources(folder: Path, config: str) -> list[Source]:
    stems = CONFIGS[config]
    found = [
        Source(NAME, native, str(folder / f"{stem}.jsonl"), config)
        for stem, native in stems.items()
        if (folder / f"{stem}.jsonl").is_file()
    ]
    if not found:
        wanted = " or ".join(f"{stem}.jsonl" for stem in stems)
        present = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise BadInput(f"corpus.path={folder} holds {present}", f"corpus.config={config} reads {wanted}", _CURE)
    return found


def _file_source(path: Path, config: str) -> Source:
    """A file under its official name keeps its official split; any other name has none."""
    if ("socratic" in path.stem) != (config == "socratic"):
        other = "socratic" if config == "main" else "main"
        raise BadInput(
            f"corpus.path={path} is not of corpus.config={config}",
            "main never reads socratic files, nor socratic the main ones: they share their questions",
            f"type corpus.config={other} or another corpus.path",
        )
    return Source(NAME, CONFIGS[config].get(path.stem), str(path), config)


def _hub_sources(config: str) -> list[Source]:
    found = [
        Source(NAME, native, f"hub:{HUB_ID}@{REVISION}/{native.value.lower()}", config)
        for native in (Split.TRAIN, Split.TEST)
    ]
    for source in found:
        # Fills the local cache now, so that an unreachable hub is reported before anything else starts.
        _hub_rows(source)
    return found


def _hub_rows(source: Source) -> Any:
    import datasets
    from datasets import config as datasets_config
    from datasets.exceptions import DatasetsError
    from huggingface_hub.utils import logging as hub_logging

    split = source.location.rpartition("/")[2]
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # its retries are not news; the outcome is
    try:
        if not (Path(datasets_config.HF_DATASETS_CACHE) / HUB_ID.replace("/", "___")).is_dir():
            _reach_hub()
        return datasets.load_dataset(HUB_ID, source.config, revision=REVISION, split=split)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        message = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{HUB_ID} cannot be read from the hub ({message})", "allowed: the hub, or local files", _CURE
        ) from error
    finally:
        hub_logging.set_verbosity(verbosity)


def _reach_hub() -> None:
    """One request without retries: the library's own take half a minute to find that there is no network."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(HUB_ID, "README.md", repo_type="dataset", revision=REVISION), timeout=10)
    except Exception as error:  # which HTTP library the hub client uses, and so what it raises, differs by release
        raise OSError(str(error)) from error


def _rows(source: Source) -> Iterator[tuple[int, Mapping[str, Any] | Malformed]]:
    if source.location.startswith("hub:"):
        return enumerate(_hub_rows(source), start=1)
    return jsonl.rows(Path(source.location))
