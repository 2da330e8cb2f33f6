"""The RayJob's command is one that packshot takes, and its cluster begins with no GPU and grows to as many as lanes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import typer
import yaml

from flows.command import command_line

FOLDER = Path(__file__).parents[2] / "deploy" / "ray"


def test_the_job_of_kuberay_runs_a_command_that_packshot_takes_and_grows_to_its_lanes() -> None:
    job = yaml.safe_load((FOLDER / "job.yaml").read_text(encoding="utf-8"))
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
