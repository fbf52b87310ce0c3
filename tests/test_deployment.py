"""``compose.yaml`` and ``deploy/``, as far as they can be checked without containers and without a cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from configparser import ConfigParser
from types import ModuleType, SimpleNamespace
from unittest import mock

import pytest
import yaml
from helpers import ROOT
from warm_processes import warm_environment

from abalone.tracking.team_server import _login_settings

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
# Of the Compose specification, what the file uses.
SERVICE_KEYS = {"image", "build", "restart", "depends_on", "entrypoint", "command"}
SERVICE_KEYS |= {"environment", "ports", "volumes", "configs", "healthcheck"}
CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")
TEMPLATE = yaml.safe_load((ROOT / "deploy" / "kubernetes_job_template.yaml").read_text())


def test_compose_has_the_form_of_the_specification():
    assert set(COMPOSE) <= {"name", "services", "configs", "volumes"}
    for name, service in SERVICES.items():
        assert set(service) <= SERVICE_KEYS, name
        assert "image" in service or "build" in service, name
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] in CONDITIONS
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[needed]
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in COMPOSE["volumes"]
        for config in service.get("configs", []):
            assert (config if isinstance(config, str) else config["source"]) in COMPOSE["configs"]
    assert (ROOT / SERVICES["mlflow"]["build"]["dockerfile"]).exists()


@pytest.mark.parametrize("name", ["postgres", "minio", "mlflow"])
def test_every_server_says_whether_it_is_healthy(name):
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD" and len(check["test"]) > 1
    assert all(re.fullmatch(r"\d+s", check[key]) for key in ("interval", "timeout")) and check["retries"] > 0


def test_no_secret_is_in_the_file_and_none_has_a_default():
    secrets = 0
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET", name):
                assert re.fullmatch(r"\$\{[A-Z_]+:\?\}", value), f"{name} is {value}"
                secrets += 1
            assert not re.search(r"//\w+:.*@", value), f"{name} holds a password"
    assert secrets >= 5


def test_documentation_makes_every_variable_that_the_file_reads():
    read = set(re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / "compose.yaml").read_text()))
    made = set(re.findall(r"\b([A-Z_]+)=\$\(", (ROOT / "docs" / "scaling.md").read_text()))
    assert read == made


def test_mlflow_knows_the_options_of_its_server_and_answers_to_the_servers_name():
    from mlflow.cli import server

    assert SERVICES["mlflow"]["entrypoint"] == ["mlflow"]
    name, *arguments = SERVICES["mlflow"]["command"]
    given = server.make_context(name, list(arguments)).params
    assert given["allowed_hosts"] == "${SERVER_NAME:?}:5000,localhost:5000"
    assert given["artifacts_destination"] == "s3://artifacts" and given["serve_artifacts"]


def test_logins_are_set_up_as_by_make_server(tmp_path):
    _login_settings(tmp_path, "postgresql://postgres@postgres/logins")
    ours = ConfigParser()
    ours.read(tmp_path / "logins.ini")
    theirs = ConfigParser()
    theirs.read_string(COMPOSE["configs"]["logins"]["content"])
    assert theirs == ours


def test_the_project_for_kubernetes_has_the_same_entry_points_in_an_image():
    from mlflow.projects.docker import validate_docker_env
    from mlflow.projects.utils import load_project

    deployed = load_project(ROOT / "deploy")
    local = load_project(ROOT)
    validate_docker_env(deployed)
    assert deployed.env_type == "docker_env" and local.env_type == "conda_env"
    assert deployed.name == local.name and list(deployed._entry_points) == list(local._entry_points)
    for name, entry in deployed._entry_points.items():
        assert entry.command == f"python -m abalone {name}" and not entry.parameters


def test_the_job_template_is_a_job_that_takes_its_secrets_from_kubernetes():
    assert (TEMPLATE["apiVersion"], TEMPLATE["kind"]) == ("batch/v1", "Job")
    pod = TEMPLATE["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never" and TEMPLATE["spec"]["backoffLimit"] == 0
    [container] = pod["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "abalone"}}] and "env" not in container


@pytest.mark.slow
def test_mlflow_submits_a_job_whose_command_trains(store, monkeypatch):
    """All of MLflow's backend but the image and the cluster; what the pod would execute runs as a process."""
    import mlflow

    pods = []
    stand_in_for_kubernetes(monkeypatch, pods)
    stand_in_for_docker(monkeypatch)
    tracking_uri = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("KUBE_MLFLOW_TRACKING_URI", tracking_uri)
    monkeypatch.chdir(ROOT)  # where the documented command is entered
    submitted = mlflow.projects.run(
        "deploy",
        entry_point="classify",
        experiment_name="abalone",
        backend="kubernetes",
        backend_config="deploy/backend_config.json",
        build_image=True,
        parameters={"epochs": 1, "learning_rate": 0.003},
    )
    [job] = pods
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("registry.example.com/abalone") and job["metadata"]["namespace"] == "default"
    run = mlflow.get_run(submitted.run_id)
    assert run.info.status == "FINISHED" and "accuracy/test" in run.data.metrics
    assert run.data.params["epochs"] == "1" and run.data.params["learning_rate"] == "0.003"


def stand_in_for_kubernetes(monkeypatch: pytest.MonkeyPatch, pods: list[dict]) -> None:
    """A cluster that executes a job's command on this machine, in its variables, and notes the job."""

    class Batch:
        def create_namespaced_job(self, namespace: str, body: dict, pretty: bool) -> None:
            pods.append(body)
            [container] = body["spec"]["template"]["spec"]["containers"]
            variables = {entry["name"]: entry["value"] for entry in container["env"]}
            subprocess.run(container["command"], check=True, env=warm_environment() | variables, timeout=300)

        def read_namespaced_job_status(self, name: str, namespace: str, pretty: bool) -> SimpleNamespace:
            complete = SimpleNamespace(status="True", type="Complete", message="Job completed")
            return SimpleNamespace(status=SimpleNamespace(start_time=0, conditions=[complete]))

    exceptions = ModuleType("kubernetes.config.config_exception")
    exceptions.ConfigException = type("ConfigException", (Exception,), {})
    config = ModuleType("kubernetes.config")
    config.load_kube_config = lambda context: None
    cluster = ModuleType("kubernetes")
    cluster.config = config
    cluster.client = SimpleNamespace(BatchV1Api=Batch)
    for module in (cluster, config, exceptions):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def stand_in_for_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A docker that builds and pushes what it is asked to."""
    client = mock.Mock()
    client.images.build.side_effect = lambda tag, **options: (SimpleNamespace(id="sha256:1", tags=[tag]), [])
    client.images.push.return_value = []
    client.images.get_registry_data.return_value = SimpleNamespace(id="sha256:1")
    monkeypatch.setattr("mlflow.projects.docker.validate_docker_installation", lambda: None)
    monkeypatch.setattr("docker.from_env", lambda **options: client)
