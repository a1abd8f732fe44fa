"""A Ray cluster of several nodes on this machine, and which process works on which of them."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from ray.cluster_utils import Cluster

SETTINGS = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def cluster(patch: pytest.MonkeyPatch, nodes: Sequence[dict[str, Any]], **head: Any) -> Iterator[tuple[Cluster, list]]:
    """A cluster and its nodes beside the head, on which no work is scheduled unless `head` says so."""
    for name, value in SETTINGS.items():
        patch.setenv(name, value)
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as place:  # a socket's path must be short
        whole = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "temp_dir": place, **head})
        try:
            yield whole, [whole.add_node(**node) for node in nodes]
        finally:
            whole.shutdown()


def raylet(node: Any) -> int:
    """Process id of what starts the workers of a node."""
    (found,) = node.all_processes["raylet"]
    return found.process.pid
