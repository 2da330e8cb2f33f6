"""What deploy/ says agrees with itself and with the project."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tasks.kinds.registry import all_kinds

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MANIFESTS = sorted(DEPLOY.glob("kubernetes/*.yaml"))


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, each with its argument."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def arguments(instruction: str) -> list[str]:
    return [argument for word, argument in instructions() if word == instruction]


def pinned() -> dict[str, str]:
    lock = (ROOT / "requirements.lock").read_text()
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", lock, flags=re.MULTILINE))


@pytest.fixture
def job() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "kubernetes" / "job.yaml").read_text())


@pytest.fixture
def pod(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return container


def test_what_the_image_copies_is_in_the_project_and_not_ignored() -> None:
    kept = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [copy.split()[:-1] for copy in arguments("COPY") if not copy.startswith("--from")]
    for source in (source for sources in copied for source in sources):
        assert (ROOT / source).exists(), source
        assert any(Path(source).match(pattern) for pattern in kept), source


def test_the_image_holds_every_package_of_the_project() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    copied = {source for copy in arguments("COPY") for source in copy.split()[:-1]}
    assert {package.split(".")[0] for package in packages} <= copied


def test_the_image_starts_the_projects_command_as_nobody_special() -> None:
    (entry,) = arguments("ENTRYPOINT")
    assert json.loads(entry)[-1] in PROJECT["scripts"]
    assert arguments("USER") == ["10001"]
    assert any(f"useradd --uid {arguments('USER')[0]} " in run for run in arguments("RUN"))


def test_the_image_has_a_python_that_the_project_runs_on() -> None:
    for base in arguments("FROM"):
        version = re.match(r"python:([\d.]+)-slim", base)
        assert version
        assert version[1] in SpecifierSet(PROJECT["requires-python"])


def test_the_image_installs_only_what_the_lock_has_a_hash_for() -> None:
    installs = [part.strip() for run in arguments("RUN") for part in run.split("&&") if "pip install" in part]
    assert [install for install in installs if "--require-hashes" not in install and "--no-deps" not in install] == [
        "pip install --no-cache-dir uv==0.13.8"  # the installer itself
    ]
    assert all("--no-build-isolation" in install for install in installs if "--no-deps" in install)
    for block in re.split(r"\n(?=[A-Za-z])", (ROOT / "requirements.lock").read_text()):
        assert "==" not in block or "--hash=sha256:" in block, block


def test_the_lock_has_all_that_the_project_asks_for() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *build]):
        assert pinned()[requirement.name] in requirement.specifier, requirement


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest.name)
def test_a_manifest_is_one_object_of_a_known_kind(manifest: Path) -> None:
    parsed = yaml.safe_load(manifest.read_text())
    kinds = {"batch/v1": "Job", "v1": "PersistentVolumeClaim"}
    assert kinds[parsed["apiVersion"]] == parsed["kind"]
    assert {"name", "generateName"} & set(parsed["metadata"])


def test_the_job_runs_the_image_of_this_version_with_arguments_for_its_command(container: dict[str, Any]) -> None:
    assert container["image"].endswith(f"/packshot:{PROJECT['version']}")
    assert "command" not in container  # the image's entry point stays
    assert container["args"][0] == "generate"
    assert "--store" in container["args"]


def test_the_job_has_one_gpu_and_no_rights(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert str(pod["securityContext"]["runAsUser"]) == arguments("USER")[0]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_job_takes_its_secrets_from_one_secret_that_its_comment_makes(container: dict[str, Any]) -> None:
    comment = (DEPLOY / "kubernetes" / "job.yaml").read_text()
    required = set()
    for variable in container["env"]:
        key = variable["valueFrom"]["secretKeyRef"]
        assert (key["name"], key["key"]) == ("packshot", variable["name"])
        if not key.get("optional"):
            required.add(variable["name"])
    assert required == set(re.findall(r"--from-literal=(\w+)=", comment))


def test_the_job_mounts_volumes_that_are_there_over_folders_that_the_image_uses(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    assert mounts["work"] == arguments("WORKDIR")[-1]
    assert f"HF_HOME={mounts['models']}" in " ".join(arguments("ENV"))
    assert f"XDG_CACHE_HOME={mounts['models']}/" in " ".join(arguments("ENV"))
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "emptyDir" not in volume]
    made = [yaml.safe_load(manifest.read_text())["metadata"].get("name") for manifest in MANIFESTS]
    assert set(claims) <= set(made)


def test_the_job_isnt_tried_again_for_what_trying_doesnt_mend(job: dict[str, Any], pod: dict[str, Any]) -> None:
    rule = job["spec"]["podFailurePolicy"]["rules"][0]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["values"] == [1, 2]
    assert rule["onExitCodes"]["containerName"] == pod["containers"][0]["name"]
    assert pod["restartPolicy"] == "Never"


def statements(file: str) -> list[dict[str, Any]]:
    return list(json.loads((DEPLOY / "s3" / file).read_text())["Statement"])


def test_a_bucket_lets_packshot_do_what_a_store_does_and_no_more() -> None:
    actions = {action for one in statements("permissions.json") for action in [*_list(one["Action"])]}
    objects = {"s3:GetObject", "s3:PutObject", "s3:DeleteObject"}
    assert actions == {*objects, "s3:ListBucket", "s3:GetBucketVersioning"}


def test_anybody_may_read_what_is_published_and_nothing_else() -> None:
    (one,) = statements("public-read.json")
    assert (one["Effect"], one["Principal"], one["Action"]) == ("Allow", "*", "s3:GetObject")
    assert [resource.split("/")[-2] for resource in one["Resource"]] == ["images", "layers"]


def _list(thing: str | list[str]) -> list[str]:
    return [thing] if isinstance(thing, str) else thing


def test_every_kind_of_job_has_a_deployment_whose_job_it_accepts() -> None:
    deployments = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["deployments"]
    by_kind = {deployment["entrypoint"].partition(":")[2]: deployment for deployment in deployments}
    assert {*by_kind} == {kind.name for kind in all_kinds()}
    for kind in all_kinds():
        deployment = by_kind[kind.name]
        assert (ROOT / deployment["entrypoint"].partition(":")[0]).is_file()
        job = kind.job(**deployment["parameters"]["job"])
        assert job.store.startswith("out/")
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
