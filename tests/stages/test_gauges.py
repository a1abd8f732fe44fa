"""What Prometheus finds at the endpoint of a node while a run is at work there."""

import re
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from raysae.pipeline import run
from raysae.stages import gauges
from raysae.stages.progress import Reporter
from raysae.types.loading import load
from tests.runs import copy_before


def test_nothing_is_imported_or_counted_where_ray_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setattr(gauges, "_metric", lambda *_: pytest.fail("a metric was made"))
    gauges.count_tokens("capture", 10)
    gauges.show_queue("Capturer", 1)
    gauges.show_training("main/0", 0.5, 0.1)
    assert "ray" not in sys.modules


def watch(address: str, ended: threading.Event, last: dict[str, float]) -> None:
    """Keep the last value of every series of ours, and how often a queue was seen."""
    while not ended.wait(0.2):
        with urllib.request.urlopen(address, timeout=5) as answer:
            text = answer.read().decode()
        for name, labels, value in re.findall(r"^ray_(raysae_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
            (tag,) = re.findall(r'(?:stage|worker|sae)="([^"]*)"', labels)
            last[f"{name} {tag}"] = max(last.get(f"{name} {tag}", 0), float(value))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_tokens_queue_and_loss_of_a_run_are_scraped(
    undisturbed: Path, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RAYSAE_LOCAL": "0", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}.items():
        monkeypatch.setenv(name, value)
    import ray

    copy_before("capture", undisturbed, tmp_path)
    ray.init(address="local", num_cpus=4, include_dashboard=False, _system_config={"metrics_report_interval_ms": 200})
    try:
        (node,) = ray.nodes()
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        ended, seen = threading.Event(), dict[str, float]()
        watcher = threading.Thread(target=watch, args=(address, ended, seen))
        watcher.start()
        try:
            run(load(tiny_config, [f"out={tmp_path}"]), Reporter(), "train")
        finally:
            ended.set()
            watcher.join()
    finally:
        ray.shutdown()
    assert 0 < seen["raysae_tokens_total capture"] <= 2 * 23_824
    assert 0 < seen["raysae_tokens_total train"] <= 80 * 256 * 4
    assert seen["raysae_queue_depth Capturer"] > 1
    assert seen["raysae_loss main/0"] > 0 and 0 < seen["raysae_fvu main/0"] < 2
