"""The cluster files, by Ray's own schema and parser; and a head that does not open without a token."""

import copy
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config

from raysae.errors import Refused
from tests.conftest import ROOT

CLUSTER = ROOT / "cluster"
CLOUDS = ("aws", "gcp")


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / name).read_text())


@pytest.fixture
def head() -> Any:
    spec = importlib.util.spec_from_file_location("head", CLUSTER / "head.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("cloud", CLOUDS)
def test_rays_schema_accepts_it(cloud: str) -> None:
    config = read(f"{cloud}.yaml")
    validate_config(prepare_config(copy.deepcopy(config)))
    config["surprise"] = 1
    with pytest.raises(Exception, match="surprise"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_nothing_is_scheduled_on_the_head_and_gpus_start_from_none(cloud: str) -> None:
    types = read(f"{cloud}.yaml")["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert all(kind.get("min_workers", 0) == 0 for kind in types.values())
    spot = {
        name: "spot" in str(kind["node_config"]).lower() or "preemptible" in str(kind) for name, kind in types.items()
    }
    assert spot == {"head": False, "cpu": True, "gpu_spot": True, "gpu_on_demand": False}
    names = list(types)
    assert names.index("gpu_spot") < names.index("gpu_on_demand"), "spot is asked for first"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_node_needs_the_token_and_the_image_brings_ray(cloud: str) -> None:
    config = read(f"{cloud}.yaml")
    assert "-e RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    assert config["setup_commands"] == []
    assert "cluster/head.py --host 0.0.0.0" in " ".join(config["head_start_ray_commands"])
    assert "ray start --head" not in str(config), "only head.py looks for a token"


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_kuberays_autoscaler_reads_it(name: str) -> None:
    resource = read(f"kuberay/{name}.yaml")
    spec = resource["spec"]["rayClusterSpec"] if name == "rayjob" else resource["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    cluster = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "raysae", "namespace": "n"},
        "spec": spec,
    }
    found = _derive_autoscaling_config_from_ray_cr(cluster)
    types = found["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert (types["gpu"]["min_workers"], types["gpu"]["max_workers"]) == (0, 8)
    assert (types["gpu"]["resources"]["GPU"], types["cpu"]["resources"]["CPU"]) == (1, 16)
    assert found["max_workers"] == 12


def test_a_job_of_kubernetes_runs_a_configuration_that_is_there() -> None:
    words = read("kuberay/rayjob.yaml")["spec"]["entrypoint"].split()
    inside = [word.removeprefix("/home/ray/raysae/") for word in words if word.startswith("/home/ray/raysae/")]
    assert inside and all((ROOT / path).is_file() for path in inside)


def test_the_job_and_the_cluster_of_kubernetes_are_the_same_cluster() -> None:
    assert read("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"] == read("kuberay/raycluster.yaml")["spec"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "head.example"])
def test_a_public_head_without_a_token_is_refused_with_the_reason(head: Any, host: str, tmp_path: Path) -> None:
    nowhere = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
    with pytest.raises(Refused, match="without a token: whoever reaches its ports runs code on it.*ray get-auth-token"):
        head.check(host, nowhere)
    with pytest.raises(Refused, match="RAY_AUTH_MODE=disabled: whoever reaches its ports"):
        head.check(host, {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "x"})
    head.check(host, {"RAY_AUTH_TOKEN": "x"})
    (tmp_path / "token").write_text("x\n")
    head.check(host, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")})
    (tmp_path / "token").write_text("\n")
    with pytest.raises(Refused):
        head.check(host, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")})


def test_the_job_api_listens_on_this_machine_alone_unless_told_otherwise(head: Any) -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        head.check(host, {"RAY_AUTH_TOKEN_PATH": "/nowhere"})  # a token is made
        with pytest.raises(Refused, match="a head with RAY_AUTH_MODE=disabled"):  # Ray's other ports are open to all
            head.check(host, {"RAY_AUTH_MODE": "disabled"})
    started = head.command(head.LOOPBACK, ["--num-cpus=4"])
    assert started == ["ray", "start", "--head", "--dashboard-host=127.0.0.1", "--num-cpus=4"]


def test_the_refusal_is_one_line_and_status_5(head: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(sys, "argv", ["head.py", "--host", "0.0.0.0"])
    monkeypatch.setattr(head.subprocess, "run", lambda *_, **__: pytest.fail("something was started"))
    assert head.main() == Refused.status == 5
    assert len(capsys.readouterr().err.strip().split("\n")) == 1
