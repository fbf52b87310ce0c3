"""The copy of ``abalone.model`` that travels with a model: its name, its files, and how it is imported."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from project_copies import copy_project
from warm_processes import PYTHON, warm_environment

import abalone.model
from abalone.model import networks
from abalone.tracking.sealing import sealed_module, sealed_name, write_sealed_package

FOLDER = Path(abalone.model.__file__).parent
MODULES = ("columns", "features", "networks", "scorer")

# Everything that imports the copy for the first time runs in a process of its own: in this one, a test before may have
# loaded a logged model, whose archive has the same modules.
FROM_MEMORY = """
import sys
import traceback
from abalone.tracking.sealing import sealed_module, sealed_name

networks = sealed_module("networks")
print(networks.__spec__.origin)
print(list(sys.modules[sealed_name()].__path__))
try:
    networks.build({"architecture": "none", "task": "regression"})
except ValueError as error:
    print(traceback.extract_tb(error.__traceback__)[-1].filename)
"""
THREADS = """
from concurrent.futures import ThreadPoolExecutor
from abalone.tracking.sealing import sealed_module

with ThreadPoolExecutor(8) as pool:
    modules = list(pool.map(sealed_module, ["networks", "features", "scorer", "columns"] * 4))
assert len({id(module) for module in modules}) == 4
"""
EDITED = """
import sys
import zipfile
from pathlib import Path
from abalone.tracking.sealing import sealed_module, sealed_name, write_sealed_package

networks = Path("abalone/model/networks.py")
before = networks.read_text()
networks.write_text("raise SyntaxError('edited while the process runs')")
name = sealed_name()
assert sealed_module("networks").build
package = zipfile.ZipFile(write_sealed_package(Path(sys.argv[1])))
assert package.read(f"{name}/networks.py").decode() == before
"""


def test_the_name_ends_in_a_digest_of_names_and_contents():
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    assert sealed_name() == f"abalone_model_{digest.hexdigest()[:8]}"
    assert re.fullmatch(r"abalone_model_[0-9a-f]{8}", sealed_name())


def test_the_written_package_is_a_copy_of_the_python_files(tmp_path):
    archive = write_sealed_package(tmp_path)
    assert archive == tmp_path / f"{sealed_name()}.zip"
    with zipfile.ZipFile(archive) as package:
        written = {name: package.read(name) for name in package.namelist()}
    assert written == {f"{sealed_name()}/{path.name}": path.read_bytes() for path in FOLDER.glob("*.py")}
    first = archive.read_bytes()
    assert write_sealed_package(tmp_path).read_bytes() == first, "its sum tells whether two models have the same code"


def test_the_modules_of_the_copy_import_each_other_and_not_the_project():
    for name in MODULES:
        module = sealed_module(name)
        assert module.__name__ == f"{sealed_name()}.{name}"
        assert module is sealed_module(name) is importlib.import_module(module.__name__)
    sealed = sealed_module("networks")
    assert sealed.Classifier is not networks.Classifier
    assert sealed.Prepare is sealed_module("features").Prepare
    assert sealed_module("scorer").build is sealed.build


@pytest.mark.slow
def test_the_copy_does_not_need_a_folder_and_a_traceback_names_its_modules():
    done = subprocess.run([PYTHON, "-c", FROM_MEMORY], capture_output=True, text=True, env=warm_environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["None", "[]", f"<{sealed_name()}.networks>"]


def test_other_modules_are_not_found_in_the_copy():
    for name in (f"{sealed_name()}.nothing", f"{sealed_name()}.networks.build", "abalone_model_00000000"):
        with pytest.raises(ModuleNotFoundError):
            sealed_module("columns")
            importlib.import_module(name)
    assert importlib.util.find_spec("networks") is None


@pytest.mark.slow
def test_threads_may_import_the_copy_at_the_same_time():
    done = subprocess.run([PYTHON, "-c", THREADS], capture_output=True, text=True, env=warm_environment())
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_files_are_those_of_the_start_of_the_process(tmp_path):
    project = copy_project(tmp_path / "project")
    (tmp_path / "written").mkdir()
    command = [PYTHON, "-c", EDITED, tmp_path / "written"]
    done = subprocess.run(command, capture_output=True, text=True, env=warm_environment(), cwd=project)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_name_changes_with_every_file(tmp_path):
    ask = [PYTHON, "-c", "from abalone.tracking.sealing import sealed_name; print(sealed_name())"]

    def name_after_editing(name: str) -> str:
        project = copy_project(tmp_path / name)
        with (project / "abalone" / "model" / f"{name}.py").open("a") as file:
            file.write("# edited\n")
        return subprocess.check_output(ask, text=True, env=warm_environment(), cwd=project).strip()

    with ThreadPoolExecutor(2) as pool:
        names = list(pool.map(name_after_editing, ("__init__", *MODULES)))
    assert len({sealed_name(), *names}) == 1 + len(names)
