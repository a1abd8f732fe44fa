"""Run folders on an object store: what it holds at each moment, and what another machine makes of it.

A folder stands for the store where only order and ownership matter (`file://`); an S3 server answers a real connection
where the protocol does.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysae.errors import BadInput, Refused, Unreachable
from raysae.store import Ledger, Manifest, mirror, write_block, write_json
from raysae.store.mirror import Mirror, fetch, fetch_ledger, followed
from raysae.store.remote import Remote
from raysae.types.place import place, url_of
from tests.runs import in_process
from tests.store.test_ledger import record


class Machine:
    """One with a disk of its own, and the run folder as it sees it."""

    def __init__(self, name: str, url: str, disk: Path, patch: pytest.MonkeyPatch) -> None:
        self.name, self.url, self.disk, self.patch = name, url, disk, patch

    def at_work(self) -> Path:
        """From here on this one runs; returns its working copy."""
        self.patch.setenv("RAYSAE_SCRATCH", str(self.disk))
        self.patch.setattr(mirror, "machine", lambda: self.name)
        return Path(place(self.url)) / "run"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def machines(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Machine, Machine]:
    return (
        Machine("first", f"file://{store}", tmp_path / "disk-1", monkeypatch),
        Machine("second", f"file://{store}", tmp_path / "disk-2", monkeypatch),
    )


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    boto3, server = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    monkeypatch.setattr(logging.getLogger("werkzeug"), "disabled", True)
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{running.get_host_and_port()[1]}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield "s3://bucket/some/runs"
    running.stop()


def write(root: Path, blocks: int = 3) -> None:
    """A finished folder, as stages leave one."""
    folder = root / "activations" / "main"
    made = [
        write_block(folder, f"train-{i}", ".parquet", "mark", 1, lambda path, i=i: path.write_bytes(b"%d" % i * 100))
        for i in range(blocks)
    ]
    Manifest(kind="activations", fingerprint="mark", blocks=tuple(made)).write(folder)


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def quiet(line: str) -> None: ...


@pytest.mark.parametrize("url", ["s3://bucket/runs", "gs://bucket", "file:///srv/runs/a b"])
def test_an_address_is_found_again_in_its_working_copy(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAYSAE_SCRATCH", str(tmp_path))
    assert url_of(Path(place(url))) == url
    assert url_of(Path(place(url)) / "x") == f"{url}/x"
    assert url_of(tmp_path.parent / "runs") is None


@pytest.mark.parametrize(
    "url", ["ftp://host/runs", "s3://", "s3://key:secret@bucket/runs", "s3://bucket/../x", "s3://bucket/x?endpoint=y"]
)
def test_another_address_is_refused_in_one_line_and_no_secret_is_repeated(url: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("model: {name: tiny-cot}\n")
    for arguments in (("run", str(tmp_path / "x.yaml"), f"out={url}"), ("verify", url)):
        ended = in_process(*arguments)
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1
        assert "allowed: " in ended.stderr
        assert "secret" not in ended.stderr


def test_the_store_follows_what_is_new_what_is_changed_and_what_is_gone(
    machines: tuple[Machine, Machine], store: Path
) -> None:
    root = machines[0].at_work()
    write(root)
    write_json(root / "resources.json", 1)
    followed_by = Mirror(root)
    followed_by.push()
    assert files(store / "run") == files(root)
    sent: list[str] = []
    followed_by.remote.send = lambda name: sent.append(name)  # pyright: ignore[reportAttributeAccessIssue]
    followed_by.push()
    assert not sent
    write_json(root / "resources.json", 2)
    (root / "activations/main/train-0.parquet").unlink()
    (root / "halt").touch()
    (root / "sae/ray_train").mkdir(parents=True)
    write_json(root / "sae/ray_train/state.json", {})
    followed_by.push()
    assert sent == ["resources.json"]
    assert "activations/main/train-0.parquet" not in files(store / "run")


@pytest.mark.parametrize("sends", range(8))
def test_a_machine_lost_while_it_sends_leaves_no_manifest_without_its_blocks(
    sends: int, machines: tuple[Machine, Machine], store: Path
) -> None:
    root = machines[0].at_work()
    write(root)
    dying = Mirror(root)
    whole, left = dying.remote.send, iter(range(sends))

    def send(name: str) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        whole(name)

    dying.remote.send = send  # pyright: ignore[reportAttributeAccessIssue]
    if sends < 7:
        with pytest.raises(KeyboardInterrupt):
            dying.push()
    else:
        dying.push()
    assert len(files(store)) == sends
    there = store / "run/activations/main"
    for receipt in there.glob("train-*.json"):
        assert receipt.with_suffix(".parquet").is_file()
    if Manifest.exists(there):
        assert not Manifest.read(there).problems(there)
    fetch(machines[1].at_work())
    assert files(machines[1].at_work()) == files(store / "run")


def test_what_is_newer_than_the_look_waits_for_the_next(machines: tuple[Machine, Machine], store: Path) -> None:
    root = machines[0].at_work()
    write(root, blocks=1)
    later = time.time_ns() + 60 * 10**9
    os.utime(root / "activations/main/manifest.json", ns=(later, later))
    Mirror(root).push(settled=True)
    assert not Manifest.exists(store / "run/activations/main")
    assert (store / "run/activations/main/train-0.parquet").is_file()


def test_another_machine_goes_on_and_the_first_one_sees_it(machines: tuple[Machine, Machine]) -> None:
    root = machines[0].at_work()
    with followed(root, quiet):
        write(root)
    other = machines[1].at_work()
    with followed(other, quiet):
        assert files(other) == files(root)
        write_json(other / "resources.json", "second")
    root = machines[0].at_work()
    write_json(root / "verdict.json", "work of a time before the second machine's")
    with followed(root, quiet):
        assert files(root) == files(other)


def test_what_a_killed_run_had_not_sent_is_not_lost(machines: tuple[Machine, Machine], store: Path) -> None:
    root = machines[0].at_work()
    write_json(root / "experiment.json", 0)
    killed = Mirror(root)
    killed.hold()
    killed.push()
    write(root)
    write_json(root / "experiment.json", 1)
    fetch(root)  # a reader beside the run, or after it
    assert json.loads((root / "experiment.json").read_text()) == 1
    with followed(root, quiet):
        assert Manifest.exists(root / "activations/main")
    assert files(store / "run") == files(root)


def test_a_copy_that_is_lost_is_made_again(machines: tuple[Machine, Machine], store: Path) -> None:
    root = machines[0].at_work()
    with followed(root, quiet):
        write(root)
    shutil.rmtree(machines[0].disk)
    with followed(root, quiet):
        assert files(root) == files(store / "run")


def test_a_machine_that_was_taken_for_dead_sends_nothing_any_more(
    machines: tuple[Machine, Machine], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SILENCE", 0)
    root = machines[0].at_work()
    with pytest.raises(Refused, match=f"taken over by second; .*is in {root}"), followed(root, quiet):
        write_json(root / "experiment.json", "first")
        with followed(other := machines[1].at_work(), quiet):
            write_json(other / "experiment.json", "second")
    assert json.loads((store / "run/experiment.json").read_text()) == "second"
    assert json.loads((root / "experiment.json").read_text()) == "first"


def test_of_a_finished_run_the_activations_stay_there_until_they_are_asked_for(
    machines: tuple[Machine, Machine],
) -> None:
    root = machines[0].at_work()
    with followed(root, quiet):
        write(root)
        for name in mirror.FINISHED:
            write_json(root / name, 0)
    other = machines[1].at_work()
    with followed(other, quiet):
        assert files(other).keys() == mirror.FINISHED
    fetch(other)
    assert files(other) == files(root)


def test_one_machine_at_a_time_until_it_is_silent(machines: tuple[Machine, Machine], store: Path) -> None:
    root = machines[0].at_work()
    with followed(root, quiet):
        write(root)
        other = machines[1].at_work()
        with (
            pytest.raises(Refused, match="written by first, last heard of . s ago.*one machine at a time"),
            followed(other, quiet),
        ):
            pytest.fail("two machines at once")
        machines[0].at_work()
    machines[1].at_work()
    with followed(other, quiet):  # after its orderly end nobody waits
        assert files(other) == files(root)


def test_while_a_stage_works_the_store_keeps_up(
    machines: tuple[Machine, Machine], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PERIOD", 0.01)
    root = machines[0].at_work()
    with followed(root, quiet):
        write(root)
        until = time.monotonic() + 30
        while not Manifest.exists(store / "run/activations/main"):
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_store_that_falls_silent_is_said_once_and_nothing_is_lost(
    machines: tuple[Machine, Machine], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PERIOD", 0.01)
    root = machines[0].at_work()
    said: list[str] = []
    with pytest.raises(Unreachable, match=f"everything is in {root}"), followed(root, said.append):
        store.rename(store.with_name("away"))
        store.write_text("no folder")
        write(root)
        until = time.monotonic() + 30
        while len(said) < 2:
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(0.1)
    assert len(said) == 2
    assert Manifest.exists(root / "activations/main")
    with pytest.raises(ZeroDivisionError), pytest.MonkeyPatch.context() as patch:
        store.unlink()
        patch.setattr(Remote, "send", lambda *_: (_ for _ in ()).throw(OSError("gone")))
        with followed(root, quiet):
            raise ZeroDivisionError
    with followed(root, quiet):
        pass
    assert files(store / "run") == files(root)


def test_the_ledgers_of_two_machines_become_one(machines: tuple[Machine, Machine], store: Path) -> None:
    for number, machine in enumerate(machines):
        root = machine.at_work()
        with followed(root.with_name(f"run-{number}"), quiet):
            Ledger(root.with_name("ledger.jsonl")).append(record(machine.name))
    for machine in machines:
        out = machine.at_work().parent
        fetch_ledger(out)
        assert [line.experiment for line in Ledger(out / "ledger.jsonl").records()] == ["first", "second"]


def test_over_a_real_connection(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (Machine(name, s3, tmp_path / name, monkeypatch) for name in ("first", "second"))
    root = first.at_work()
    with followed(root, quiet):
        write(root)
        write_json(root / "resources.json", 1)
    (root / "resources.json").unlink()
    Ledger(root.with_name("ledger.jsonl")).append(record("first"))
    with followed(root, quiet):
        pass
    other = second.at_work()
    fetch(other)
    assert files(other) == files(root)
    assert [line.experiment for line in Ledger(other.with_name("ledger.jsonl")).records()] == ["first"]
    missing = Machine("third", "s3://missing/runs", tmp_path / "third", monkeypatch).at_work()
    with (
        pytest.raises(BadInput, match="s3://missing/runs/run: .*allowed: a place this machine may read and write"),
        followed(missing, quiet),
    ):
        pytest.fail("a bucket that is not there")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_whole_quickstart_is_finished_on_another_machine(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is empty: captured on one, trained and judged on the other, verified on a third."""
    from tests.runs import raysae

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = str(Path(__file__).parents[2] / "configs/quickstart.yaml")
    for number, command in enumerate((("capture", config), ("run", config), ("run", config))):
        monkeypatch.setenv("RAYSAE_SCRATCH", str(tmp_path / f"disk-{number}"))
        ended = raysae(*command, f"out={s3}", local=False, timeout=1500)
        assert ended.returncode == 0, ended.stderr
        assert s3 in ended.stdout
    assert "nothing to do" in ended.stdout
    folder = tmp_path / "disk-2/s3/bucket/some/runs/quickstart"
    assert not list(folder.rglob("activations/**/*.parquet"))
    assert json.loads((folder / "verdict.json").read_text())["outcome"]
    ended = raysae("verify", f"{s3}/quickstart")
    assert ended.returncode == 0, ended.stderr
