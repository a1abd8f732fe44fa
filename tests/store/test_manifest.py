"""The commit protocol: a manifest is exclusive and last, blocks are whole, and every change is found."""

from pathlib import Path

import pytest

from raysae.errors import BadInput, Refused
from raysae.store import BlockInfo, Manifest, finished_blocks, write_atomic, write_block


def block(folder: Path, name: str, text: str = "x", mark: str = "f") -> BlockInfo:
    return write_block(folder, name, ".txt", mark, 1, lambda path: path.write_text(text) and None, split="TRAIN")


def test_a_block_is_finished_only_under_its_own_fingerprint_and_size(tmp_path: Path) -> None:
    block(tmp_path, "a")
    assert set(finished_blocks(tmp_path, ["a", "b"], "f")) == {"a"}
    assert not finished_blocks(tmp_path, ["a"], "another")
    (tmp_path / "a.txt").write_text("longer than before")
    assert not finished_blocks(tmp_path, ["a"], "f")


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_block(tmp_path, "a", ".txt", "f", 1, fail)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_receipt_is_not_taken_for_a_finished_block(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"hello": 1}')
    assert finished_blocks(tmp_path, ["a"], "f") == {}


def test_the_manifest_is_written_once_and_an_equal_one_is_no_conflict(tmp_path: Path) -> None:
    blocks = (block(tmp_path, "a"),)
    Manifest(kind="tokens", fingerprint="f", blocks=blocks).write(tmp_path)
    Manifest(kind="tokens", fingerprint="f", blocks=blocks, provenance={"host": "other"}).write(tmp_path)
    with pytest.raises(Refused, match="other content"):
        Manifest(kind="tokens", fingerprint="g", blocks=blocks).write(tmp_path)
    assert Manifest.read(tmp_path).fingerprint == "f"


def test_one_flipped_byte_names_the_file(tmp_path: Path) -> None:
    manifest = Manifest(kind="tokens", fingerprint="f", blocks=(block(tmp_path, "a"), block(tmp_path, "b", "hello")))
    assert manifest.problems(tmp_path) == []
    path = tmp_path / "b.txt"
    data = bytearray(path.read_bytes())
    data[2] ^= 1
    path.write_bytes(data)
    (tmp_path / "a.txt").unlink()
    problems = manifest.problems(tmp_path)
    assert [str(tmp_path / "a.txt") in problems[0], "missing" in problems[0]] == [True, True]
    assert str(path) in problems[1]
    assert "sha256" in problems[1]


@pytest.mark.parametrize("text", ["", "not json", '{"kind": "x"}'])
def test_a_file_that_is_no_manifest_is_bad_input(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BadInput, match="not a manifest"):
        Manifest.read(tmp_path)


def test_writing_atomically_replaces_the_whole_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "deep" / "x", b"one")
    write_atomic(tmp_path / "deep" / "x", b"two")
    assert (tmp_path / "deep" / "x").read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x"]
