"""The files for those who take the project over agree with pyproject.toml, which has the pins."""

from __future__ import annotations

import json
import re
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
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^FROM python:([\d.]+)-", dockerfile, re.M).group(1) == python_version()
    assert re.search(r"^RUN make \.venv/\.installed$", dockerfile, re.M)


def test_the_dev_container_is_built_from_the_dockerfile():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert container["postCreateCommand"] == "make .venv/.installed-test"


def test_the_citation_names_this_version_and_the_data_set():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    [data] = citation["references"]
    assert data["doi"] in (ROOT / "LICENSE").read_text()


def python_version() -> str:
    """The Python of conda.yaml, without its patch release."""
    python = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"][0]
    return re.fullmatch(r"python=(3\.\d+)\.\d+", python).group(1)
