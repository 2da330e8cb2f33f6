"""The RayJob's command is one that packshot takes, and its cluster begins with no GPU and grows to as many as lanes.

What is in the files is known to who reads them: Ray's launcher and its autoscaler by their own code, KubeRay by its
fields' names and types. It checks objects in Go, so that these stand here: RayJobSpec and RayClusterSpec of its
ray-operator/apis/ray/v1/rayjob_types.go and raycluster_types.go (commits f6ef3f7 and 3275ee0), and what else is refused
in ray-operator/controllers/ray/utils/validation.go (0074504); of pods, those of Kubernetes' core/v1.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from flows.command import command_line

FOLDER = Path(__file__).parents[2] / "deploy" / "ray"

TEXTS = {str: str}  # a map of any names
POD = {
    "spec": {
        "terminationGracePeriodSeconds": int,
        "nodeSelector": TEXTS,
        "tolerations": [{"key": str, "operator": str, "effect": str}],
        "containers": [
            {
                "name": str,
                "image": str,
                "envFrom": [{"secretRef": {"name": str}}],
                "resources": {"requests": TEXTS, "limits": TEXTS},
                "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
            }
        ],
        "volumes": [{"name": str, "persistentVolumeClaim": {"claimName": str}}],
    }
}
RAY_CLUSTER = {
    "rayVersion": str,
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": {"idleTimeoutSeconds": int},
    "headGroupSpec": {"rayStartParams": TEXTS, "template": POD},
    "workerGroupSpecs": [
        {
            "groupName": str,
            "replicas": int,
            "minReplicas": int,
            "maxReplicas": int,
            "rayStartParams": TEXTS,
            "template": POD,
        }
    ],
}
RAY_JOB = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str},
    "spec": {
        "entrypoint": str,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "submissionMode": str,
        "backoffLimit": int,
        "rayClusterSpec": RAY_CLUSTER,
    },
}
MOST_OF_A_NAME = 47  # letters of a RayJob's: six are added, and a service's ending


def misfits(found: Any, fields: Any, where: str) -> list[str]:
    """What isn't a field, or not of its type, of what was found."""
    if isinstance(fields, type):
        return [] if type(found) is fields else [f"{where} is {found!r}, no {fields.__name__}"]
    if isinstance(fields, list):
        if not isinstance(found, list):
            return [f"{where} is no list"]
        return [one for item in found for one in misfits(item, fields[0], f"{where}[]")]
    if not isinstance(found, dict):
        return [f"{where} has no fields"]
    known = dict.fromkeys(found, str) if fields == TEXTS else fields
    return [
        one
        for name, value in found.items()
        for one in (misfits(value, known[name], f"{where}.{name}") if name in known else [f"{where} has no {name}"])
    ]


@pytest.fixture
def job() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((FOLDER / "job.yaml").read_text(encoding="utf-8"))
    return parsed


def test_the_job_of_kuberay_has_only_fields_that_it_knows_and_of_their_types(job: dict[str, Any]) -> None:
    assert misfits(job, RAY_JOB, job["kind"]) == []
    broken = {**job, "spec": {**job["spec"], "backoffLimit": "2", "idleTimeoutSeconds": 300}}
    assert misfits(broken, RAY_JOB, "RayJob") == [
        "RayJob.spec.backoffLimit is '2', no int",
        "RayJob.spec has no idleTimeoutSeconds",
    ]


def test_the_job_of_kuberay_is_none_that_its_operator_refuses(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"])
    assert len(job["metadata"]["name"]) <= MOST_OF_A_NAME
    spec = job["spec"]
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    assert min(spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) >= 0
    assert spec["shutdownAfterJobFinishes"]  # what a time to live asks for
    cluster = spec["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        volumes = {volume["name"] for volume in group["template"]["spec"]["volumes"]}
        (container,) = group["template"]["spec"]["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]


def test_rays_autoscaler_on_kubernetes_reads_no_gpu_at_first_and_one_on_each_of_eight_machines(
    job: dict[str, Any],
) -> None:
    pytest.importorskip("ray", reason="Ray isn't installed: pip install 'packshot[ray]'")
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    spec = job["spec"]["rayClusterSpec"]
    read = _derive_autoscaling_config_from_ray_cr(
        {"metadata": {"name": "packshot-abcde", "namespace": "x"}, "spec": spec}
    )
    head, gpu = read["available_node_types"][read["head_node_type"]], read["available_node_types"]["gpu"]
    assert (head["max_workers"], head["resources"]["CPU"], head["resources"].get("GPU", 0)) == (0, 2, 0)
    assert (gpu["min_workers"], gpu["max_workers"], gpu["resources"]["GPU"]) == (0, 8, 1)
    assert gpu["resources"]["CPU"] >= 1  # a lane takes one
    assert read["idle_timeout_minutes"] == 5


def test_rays_launcher_takes_the_cluster_file() -> None:
    pytest.importorskip("ray", reason="Ray isn't installed: pip install 'packshot[ray]'")
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    cluster = yaml.safe_load((FOLDER / "cluster.yaml").read_text(encoding="utf-8"))
    validate_config(prepare_config(cluster))
    with pytest.raises(ValidationError, match="idle_timeout"):
        validate_config(prepare_config({**cluster, "idle_timeout": 5}))


def test_the_job_of_kuberay_runs_a_command_that_packshot_takes_and_grows_to_its_lanes(job: dict[str, Any]) -> None:
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[0] == "packshot"
    group = typer.main.get_command(command_line())
    _, command, left = group.resolve_command(group.context_class(group, info_name="packshot"), words[1:])  # type: ignore[attr-defined]
    context = command.make_context("generate", left)
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert (workers["minReplicas"], str(workers["maxReplicas"])) == (0, context.params["lanes"])
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"]


def test_what_the_image_has_for_clusters_is_of_the_same_versions_as_all_else() -> None:
    beside, lock = (_pinned(file) for file in (FOLDER / "requirements.lock", FOLDER.parents[1] / "requirements.lock"))
    assert beside["ray"] == lock["ray"]
    assert {name: version for name, version in beside.items() if lock.get(name, version) != version} == {}
    (version,) = re.findall(r'rayVersion: "(.+)"', (FOLDER / "job.yaml").read_text(encoding="utf-8"))
    assert version == lock["ray"]


def _pinned(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", file.read_text(encoding="utf-8"), flags=re.MULTILINE))


def test_the_cluster_file_begins_with_no_gpu_and_every_gpu_machine_has_one() -> None:
    cluster = yaml.safe_load((FOLDER / "cluster.yaml").read_text(encoding="utf-8"))
    kinds = cluster["available_node_types"]
    assert cluster["head_node_type"] in kinds
    assert (kinds["gpu"]["min_workers"], kinds["gpu"]["resources"]["GPU"]) == (0, 1)
