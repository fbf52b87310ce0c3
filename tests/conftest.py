"""Every test has its own folder and its own tracking store; the developer's runs are never touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from stores import use_store
from warm.blank_figures import print_pixel

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as on the command line: beside other tests, threads mostly wait


MEMORY = Path("/dev/shm")  # where Linux has one
LEAST_MEMORY = 8e9  # bytes free there: one test installs the pins, which take gigabytes
LONGEST = "test_readme.py"
RUNS = ("registry", "stages", "tests", "tuning")  # folders whose tests train or log models where they have a store


def pytest_configure(config: pytest.Config) -> None:
    """Put temporary folders into memory: a test of the store commits a hundred times, and a disk takes its time.

    Garbage is searched for as seldom as in a command.
    """
    from abalone.cli.program import collect_less_garbage

    collect_less_garbage()
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > LEAST_MEMORY:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that log models as slow; begin with the files that take longest, so that none is left for last."""
    for item in items:
        if item.path.parent.name in RUNS and "store" in item.fixturenames:
            item.add_marker(pytest.mark.slow)
    items.sort(key=_place)


def _place(item: pytest.Item) -> tuple[bool, ...]:
    """Key by which the tests are sorted; those that look at what the longest file makes first are behind its like."""
    waits = "made" in item.fixturenames
    return item.path.name != LONGEST, "end_to_end" not in item.path.parts, waits


@pytest.fixture(autouse=True, scope="module")
def no_experiment() -> None:
    """No experiment of the file before is chosen when the fixtures of a whole file begin."""
    forget_experiment()


def forget_experiment() -> None:
    """Undo ``mlflow.set_experiment``, which keeps the experiment in a variable of the environment too."""
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].tracking.fluent._active_experiment_id = None


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, without any setting of MLflow or of studies in the developer's environment."""
    forget_experiment()  # without monkeypatch, which would bring it back
    monkeypatch.delenv("ABALONE_STORAGE", raising=False)
    for name in list(os.environ):
        if name.startswith("MLFLOW_") and name != "MLFLOW_DISABLE_TELEMETRY":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(None)


@pytest.fixture(autouse=True, scope="session")
def drawing() -> Iterator[Callable]:
    """What this process draws is one pixel, in fixtures of whole files too; the function is the one that draws."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    draw = FigureCanvasAgg.print_png
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasAgg, "print_png", print_pixel)
        yield draw


@pytest.fixture(autouse=True)
def figures(request: pytest.FixtureRequest, drawing: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests marked with ``draws`` draw their figures."""
    if request.node.get_closest_marker("draws"):
        monkeypatch.setattr("matplotlib.backends.backend_agg.FigureCanvasAgg.print_png", drawing)


@pytest.fixture(scope="session")
def empty_database(pytestconfig: pytest.Config) -> Path:
    """A tracking database with its schema. To create one takes seconds, so pytest's cache keeps it."""
    path = pytestconfig.cache.mkdir("empty-database") / f"mlflow-{version('mlflow')}.db"
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}")  # another pytest may be creating it too
        code = "import sys; from mlflow import MlflowClient; MlflowClient(sys.argv[1]).search_experiments()"
        command = [sys.executable, "-c", code, f"sqlite:///{draft}"]
        subprocess.run(command, check=True, capture_output=True, cwd=path.parent)
        draft.replace(path)
    return path


@pytest.fixture
def store(empty_database: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URI of a fresh tracking store in the test's folder, which this process and its children use."""
    shutil.copy(empty_database, own_folder / "mlflow.db")
    with use_store(own_folder, monkeypatch) as uri:
        yield uri
