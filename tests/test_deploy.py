"""The cluster files, checked by what reads them."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parent.parent / "deploy"


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def test_the_machines_pass_rays_own_validation() -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    config = util.fillout_defaults(copy.deepcopy(load("cluster-vms.yaml")))
    # Filled in by `ray up` itself.
    config |= {"cluster_synced_files": [], "file_mounts_sync_continuously": False}
    util.validate_config(config)
    gpus = [kind["resources"].get("GPU", 0) for kind in config["available_node_types"].values()]
    assert sorted(gpus) == [0, 0, 1]
    with pytest.raises(Exception, match="Additional properties"):
        util.validate_config({**config, "unknown": 1})


def test_the_runtime_environment_passes_rays_own_validation() -> None:
    runtime_env = pytest.importorskip("ray.runtime_env")
    runtime_env.RuntimeEnv(**load("runtime-env.yaml"))


def test_job_and_cluster_on_kubernetes_are_the_same_cluster() -> None:
    job, cluster = load("kuberay-job.yaml"), load("kuberay-cluster.yaml")
    assert (job["kind"], cluster["kind"]) == ("RayJob", "RayCluster")
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]
    for group in cluster["spec"]["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        (container,) = group["template"]["spec"]["containers"]
        volumes = {volume["name"] for volume in group["template"]["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert job["spec"]["entrypoint"].startswith("python -m jobs.caption ")
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
