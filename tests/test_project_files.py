"""The files for those who take the project over agree with pyproject.toml, which has the pins."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib

import yaml
from helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_pre_commit_uses_the_ruff_of_the_test_extra():
    [pin] = [pin for pin in PROJECT["optional-dependencies"]["test"] if pin.startswith("ruff==")]
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = {hook["id"]: hook for repo in config["repos"] for hook in repo["hooks"]}
    for name in ("ruff-check", "ruff-format"):
        assert hooks[name]["additional_dependencies"] == [pin]


def test_the_workflow_runs_the_gate_on_the_projects_python():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = workflow["jobs"]["gate"]["steps"]
    versions = [step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", "")]
    assert versions == [python_version()]
    assert steps[-1]["run"] == ".ci/run"


def test_the_image_has_the_projects_python_and_installs_as_make_does():
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert re.search(r"^FROM python:([\d.]+)-", dockerfile, re.M).group(1) == python_version()
    assert re.search(r"^RUN make \.venv/\.installed-server$", dockerfile, re.M)


def test_the_dev_container_is_built_from_the_dockerfile():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).resolve() == ROOT / "deploy" / "Dockerfile"
    assert container["postCreateCommand"] == "make .venv/.installed-test"


def test_the_citation_names_this_version_and_the_data_set():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    [data] = citation["references"]
    assert data["doi"] in (ROOT / "LICENSE").read_text()


def test_the_lock_has_every_pin_of_the_project_and_a_hash_of_every_file():
    text = (ROOT / "requirements.lock").read_text()
    locked = {}
    for entry in re.split(r"^(?=[a-z])", text, flags=re.M)[1:]:
        name, version = re.match(r"([a-z0-9.-]+)==(\S+)", entry).groups()
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), name
        locked[name] = version
    pins = dict(pin.split("==") for pin in PROJECT["dependencies"])
    del pins["torch"]  # the pin alone: its builds for CPU and for GPU have hashes of their own
    assert pins.items() <= locked.items(), "run: make lock"
    assert not [name for name in locked if re.match("torch|nvidia|cuda|triton", name)]


def test_the_lock_names_no_index_so_that_it_serves_everywhere():
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|^-|@ ", text, re.M)


def test_the_environment_is_made_from_the_lock_and_again_when_it_changes():
    dry_run = ["make", "--dry-run", "--always-make", ".venv/.installed"]
    commands = subprocess.check_output(dry_run, cwd=ROOT, text=True).splitlines()
    installs = [command.rpartition("--no-compile ")[2] for command in commands if "pip install" in command]
    [torch] = [pin for pin in PROJECT["dependencies"] if pin.startswith("torch==")]
    assert installs[1:] == ["--require-hashes -r requirements.lock", f"'{torch}'", "-e ."]
    assert installs[0] in PROJECT["optional-dependencies"]["test"], "the pin of uv"
    assert re.search(r"^\$\(VENV\)/\.installed: .*requirements\.lock", (ROOT / "Makefile").read_text(), re.M)


def python_version() -> str:
    """The Python of conda.yaml, without its patch release."""
    python = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"][0]
    return re.fullmatch(r"python=(3\.\d+)\.\d+", python).group(1)
