"""Watch a cluster grow for capture and shrink when it is done, on one machine and without a GPU.

    python cluster/autoscaling.py [CONFIG] [--out FOLDER] [--nodes 3] [--idle-minutes 0.2] [--figure FILE]

Ray's own autoscaler, with its fake provider in the place of a cloud: a node is a process here and its GPU a number, so
this shows who asks for nodes and when they go, not how fast anything is. Capture's actors ask for a GPU each
(`capture.gpus_per_actor=1`); the head has none.
"""

import argparse
import itertools
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
HEAD_ID = "f" * 51 + "00000"
"""The head of the fake provider."""
START_S, PATIENCE_S = 90, 180


class Sample(NamedTuple):
    """So many nodes with a GPU were alive."""

    second: float
    nodes: int


class Watched(NamedTuple):
    """What became of a command."""

    status: int
    ended: float
    """Second."""
    samples: list[Sample]


def autoscaler(address: str, nodes: int, idle_minutes: float) -> dict[str, Any]:
    """Its configuration: a head without a GPU, and from 0 to `nodes` nodes with one."""
    empty = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
    return {
        "cluster_name": "fake",
        "max_workers": nodes,
        "idle_timeout_minutes": idle_minutes,
        "provider": {
            "type": "external",  # `fake_multinode` looks for a file that the wheel does not bring
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "head_node_id": HEAD_ID,
            "gcs_address": address,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 2}, "node_config": {}, "max_workers": 0},
            "gpu": {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": nodes},
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        **{name: [] for name in (*empty, "head_start_ray_commands", "worker_start_ray_commands")},
    }


@contextmanager
def head(nodes: int, idle_minutes: float) -> Iterator[str]:
    """A head with that autoscaler and a token of its own, in this process's environment; its address. All of it, nodes
    included, ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as place:  # a socket's path must be short
        token, config = Path(place) / "token", Path(place) / "autoscaling.json"
        token.write_text(secrets.token_hex(32))
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token), RAY_USAGE_STATS_ENABLED="0")
        import ray.util  # only now: it looks for the token once

        address = f"{ray.util.get_node_ip_address()}:{port}"
        config.write_text(json.dumps(autoscaler(address, nodes, idle_minutes)))
        fake = {
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        }
        flags = [f"--port={port}", f"--temp-dir={place}", f"--autoscaling-config={config}", "--num-cpus=2"]
        ray_start = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-gpus=0"]
        started = subprocess.Popen(
            [*ray_start, "--include-dashboard=false", *flags],
            env={**os.environ, **fake},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield address
        finally:
            started.terminate()
            started.wait(timeout=60)


def watch(address: str, command: Sequence[str]) -> Watched:
    """Run a command on that cluster and count the nodes with a GPU, until they are gone after its end."""
    import ray

    _attach(address)
    samples: list[Sample] = []
    began, ended = time.monotonic(), 0.0
    process = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": address, "RAYSAE_LOCAL": "0"})
    try:
        while not ended or (samples[-1].nodes and samples[-1].second < ended + PATIENCE_S):
            alive = sum(node["Alive"] and node["Resources"].get("GPU", 0) > 0 for node in ray.nodes())
            samples.append(Sample(time.monotonic() - began, alive))
            if not ended and process.poll() is not None:
                ended = samples[-1].second
            time.sleep(0.25)
    finally:
        ray.shutdown()
        if process.poll() is None:
            process.kill()
    return Watched(process.wait(), ended, samples)


def _attach(address: str) -> None:
    """As soon as the head answers."""
    import ray

    deadline = time.monotonic() + START_S
    while True:
        try:
            ray.init(address=address, logging_level="ERROR", log_to_driver=False)
            return
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def draw(watched: Watched) -> str:
    """The nodes over time as a standalone SVG."""
    import altair as alt
    import vl_convert

    seconds = alt.X("second:Q", title="seconds since capture was started")
    most = max(sample.nodes for sample in watched.samples)
    nodes = alt.Y(
        "nodes:Q",
        title="nodes with a GPU",
        axis=alt.Axis(tickMinStep=1, tickCount=most, format="d"),
        scale=alt.Scale(domain=[0, most + 0.5]),
    )
    line = alt.Chart(alt.Data(values=[sample._asdict() for sample in watched.samples]))
    done = alt.Chart(alt.Data(values=[{"second": watched.ended, "nodes": most + 0.3, "said": "capture has ended"}]))
    chart = alt.layer(
        line.mark_line(interpolate="step-after", strokeWidth=2, color="#1f5fa8").encode(x=seconds, y=nodes),
        done.mark_rule(strokeDash=[4, 3], color="#5c6672").encode(x=seconds),
        done.mark_text(align="right", dx=-6, color="#1d232b", fontSize=12).encode(x=seconds, y=nodes, text="said:N"),
    ).properties(width=640, height=180, background="white")
    return vl_convert.vegalite_to_svg(chart.to_dict(), allowed_base_urls=[])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, nargs="?", default=ROOT / "configs" / "quickstart.yaml")
    parser.add_argument("--out", type=Path, help="folder of the run, which is kept")
    parser.add_argument("--nodes", type=int, default=3, help="with a GPU, at most")
    parser.add_argument("--idle-minutes", type=float, default=0.2, help="after which a node goes")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "autoscaling.svg")
    arguments = parser.parse_args()
    raysae = [sys.executable, "-m", "raysae"]
    with tempfile.TemporaryDirectory() as place:
        experiment = [str(arguments.config), f"out={arguments.out or place}"]
        here = {**os.environ, "RAYSAE_LOCAL": "1"}
        subprocess.run([*raysae, "seal", *experiment], env=here, stdout=subprocess.DEVNULL, check=True)
        grows = ["capture.gpus_per_actor=1", "capture.actors=2", f"capture.max_actors={arguments.nodes}"]
        with head(arguments.nodes, arguments.idle_minutes) as address:
            watched = watch(address, [*raysae, "capture", *experiment, *grows])
    for before, now in itertools.pairwise(watched.samples):
        if before.nodes != now.nodes:
            print(f"{now.second:.1f} s: {before.nodes} -> {now.nodes}")  # noqa: T201
    print(f"capture ended after {watched.ended:.1f} s")  # noqa: T201
    arguments.figure.write_text(draw(watched))
    return watched.status


if __name__ == "__main__":
    sys.exit(main())
