"""The hub, by a substitute: which repository, revision and files are asked for, and what a refusal says."""

import shutil
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from raysae.corpora import CORPORA
from raysae.errors import BadInput
from raysae.types import CorpusRecord, Split
from raysae.types.text import CorpusConfig

ROW = {"question": "How many?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"}


class Hub:
    """A hub that holds a folder, and notes what it was asked."""

    def __init__(self, folder: Path, *, cached: bool = False, error: Exception | None = None) -> None:
        self.folder, self.cached, self.error = folder, cached, error
        self.asked: list[tuple[str, str | None, tuple[str, ...]]] = []

    def snapshot_download(
        self,
        hub_id: str,
        *,
        repo_type: str,
        revision: str,
        allow_patterns: list[str],
        local_files_only: bool = False,
    ) -> str:
        assert repo_type == "dataset"
        if local_files_only and not self.cached:
            raise LocalEntryNotFoundError("not in the cache")
        self.asked.append((hub_id, revision, tuple(allow_patterns)))
        return str(self.folder)

    def get_hf_file_metadata(self, url: str, *, timeout: float) -> None:
        if self.error is not None:
            raise self.error


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    found = Hub(tmp_path / "snapshot")
    found.folder.mkdir()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", found.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", found.get_hf_file_metadata)
    return found


def test_gsm8k_is_read_from_the_parquet_files_of_the_pinned_revision(hub: Hub) -> None:
    (hub.folder / "main").mkdir()
    for split in ("train", "test"):
        pq.write_table(pa.Table.from_pylist([ROW] * 3), hub.folder / "main" / f"{split}-00000-of-00001.parquet")
    config = CorpusConfig(name="gsm8k")
    corpus = CORPORA["gsm8k"]
    got = [row for source in corpus.sources(config) for row in corpus.read(source, config)]
    assert [(row.record_id, row.split) for row in got if isinstance(row, CorpusRecord)][::3] == [
        ("gsm8k/train/0", Split.TRAIN),
        ("gsm8k/test/0", Split.TEST),
    ]
    ((hub_id, revision, patterns),) = hub.asked
    assert (hub_id, revision) == ("openai/gsm8k", "740312add88f781978c0658806c59bc2815b9866")
    assert "main/train-*.parquet" in patterns
    assert not any("socratic" in pattern for pattern in patterns)


def test_what_is_cached_needs_no_network(hub: Hub) -> None:
    hub.cached, hub.error = True, ConnectionError("no network")
    (hub.folder / "train.jsonl").write_text("")
    assert len(CORPORA["gsm8k"].sources(CorpusConfig(name="gsm8k"))) == 1


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("gsm8k", ConnectionError("Name or service not known"), r"Name or service not known.*; type corpus\.path="),
        ("reveal", PermissionError("Access to dataset google/reveal is restricted"), "accept the terms at .*HF_TOKEN"),
    ],
)
def test_an_unreachable_or_gated_hub_says_what_to_do(hub: Hub, name: str, error: Exception, said: str) -> None:
    hub.error = error
    with pytest.raises(BadInput, match=said) as refused:
        CORPORA[name].sources(CorpusConfig(name=name))
    assert "\n" not in str(refused.value)


def test_shards_are_numbered_and_a_repository_without_the_files_is_refused(hub: Hub) -> None:
    with pytest.raises(BadInput, match="holds nothing; default reads data/train"):
        CORPORA["openr1_math"].sources(CorpusConfig(name="openr1_math"))
    (hub.folder / "data").mkdir()
    for shard in range(2):
        pq.write_table(pa.table({"problem": ["p"]}), hub.folder / "data" / f"train-0000{shard}-of-00002.parquet")
    sources = CORPORA["openr1_math"].sources(CorpusConfig(name="openr1_math"))
    assert [source.name for source in sources] == ["train-00000", "train-00001"]
    shutil.rmtree(hub.folder / "data")


def test_anybodys_files_are_not_on_the_hub() -> None:
    with pytest.raises(BadInput, match="corpus.name=jsonl without corpus.path"):
        CORPORA["jsonl"].sources(CorpusConfig(name="jsonl"))
