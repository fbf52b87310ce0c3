"""The Python API: what the commands do, for notebooks and programs.

Everything here can be imported from ``abalone`` itself. Nothing imports torch or MLflow before it is called. Runs are
filed where ``MLFLOW_TRACKING_URI`` says, as those of the commands are. Everywhere, ``say`` takes each message of the
command, as Markdown (by default nothing is printed), ``experiment_name`` is where the run is filed, and ``run_name`` is
what it is called; by default both are as for the command. ``workers`` is the number of worker processes, or ``auto``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from abalone import settings as known
from abalone.settings import RingsSettings, StageSettings, load_settings
from abalone.side_by_side import worker_processes

if TYPE_CHECKING:
    from abalone.claims.verdicts import Finding
    from abalone.data.loading import LoadedData
    from abalone.registry.champion_evaluation import Evaluation
    from abalone.registry.decision import Decision
    from abalone.registry.loading import LoadedModel
    from abalone.stages.recorder import Result

__all__ = [
    "evaluate",
    "load_champion",
    "load_data",
    "load_settings",
    "predict",
    "promote",
    "read_status",
    "report",
    "rollback",
    "run_main",
    "run_stage",
    "tune",
]

Say = Callable[[str], None]


def _silent(message: str) -> None:
    """Print nothing."""


def load_data(source: str = "uci", seed: int = 0, units: str = "file", target: str = "auto") -> LoadedData:
    """Read a data file, split its rows and encode them.

    Parameters
    ----------
    source, units, target : str
        As ``abalone.data.reading.read`` takes them.
    seed : int
        Seed of the split.

    Examples
    --------
    >>> data = load_data()
    >>> data.x.shape, len(data.split.train), len(data.split.val), len(data.split.test)
    (torch.Size([4177, 10]), 1670, 418, 2089)
    """
    from abalone.data import loading

    return loading.load_data(source, seed, units, target)


def run_stage(
    stage: str,
    settings: StageSettings | RingsSettings | None = None,
    *,
    say: Say = _silent,
    experiment_name: str | None = None,
    run_name: str | None = None,
) -> Result:
    """Train, evaluate and track a stage of the guide, or ``rings``.

    Parameters
    ----------
    stage : str
    settings : StageSettings or RingsSettings, optional
        By default those of the stage's file in ``experiments/``.

    Examples
    --------
    >>> result = run_stage("classify", load_settings("classify", {"epochs": 3}))
    >>> result.metrics["test/accuracy"] > 0.6
    True
    """
    from abalone.tracking.runs import RunOptions

    settings = settings or load_settings(stage)
    options = RunOptions(experiment_name, run_name)
    if stage == "rings":
        from abalone.stages.rings import run_rings

        assert isinstance(settings, RingsSettings), "rings takes RingsSettings"
        return run_rings(settings, options, say)
    from abalone.stages import stage as stages

    assert isinstance(settings, StageSettings), f"{stage} takes StageSettings"
    return stages.run_stage(stage, settings, options=options, say=say)


def tune(
    base: str = "encode",
    settings: StageSettings | None = None,
    *,
    trials: int = 64,
    timeout: float = 0,
    workers: int = 1,
    search: Sequence[str] = known.SEARCHED_BY_DEFAULT,
    study: str = "",
    storage: str = "",
    say: Say = _silent,
    experiment_name: str | None = None,
    run_name: str | None = None,
) -> Result | None:
    """Search for better settings of a stage in an Optuna study, and train the winner.

    Parameters
    ----------
    base : str
        Stage that the study starts from.
    settings : StageSettings, optional
        By default those of its file.
    trials, timeout, workers
        As for ``abalone.tuning.search.Limits``.
    search : sequence of str
        Settings to search, out of ``experiments/tune.toml``.
    study, storage : str
        Name of the study, and where Optuna keeps it.

    Returns
    -------
    Result or None
        Of the winner; None if the time was up while other processes still work on the study.

    Examples
    --------
    >>> winner = tune("encode", load_settings("encode", {"epochs": 2}), trials=2, search=["learning_rate"])
    >>> winner.stage
    'tuned encode'
    """
    from abalone.tracking.runs import RunOptions
    from abalone.tuning.plan import Plan, read_space
    from abalone.tuning.search import Limits
    from abalone.tuning.tune import Where, run_tune

    plan = Plan(base, settings or StageSettings.from_mapping(known.read_toml(base)), read_space(search))
    limits = Limits(trials, timeout, workers)
    return run_tune(plan, Where(study, storage), limits, say, RunOptions(experiment_name, run_name))


def promote(
    tasks: Sequence[str] = known.TASKS,
    *,
    experiment: str | None = None,
    min_improvement: float = 0,
    dry_run: bool = False,
    force: bool = False,
    split: str = "",
    say: Say = _silent,
    experiment_name: str | None = None,
    run_name: str | None = None,
) -> list[Decision]:
    """Make the best models champions, and say why.

    Parameters
    ----------
    tasks : sequence of str
        classification, regression, or both.
    experiment, min_improvement, dry_run, force, split
        As for ``abalone.registry.promotion.promote``.

    Examples
    --------
    >>> [decision] = promote(["classification"])
    >>> decision.promotes, decision.version
    (True, 1)
    """
    from abalone.registry import promotion
    from abalone.tracking.runs import RunOptions

    return promotion.promote(
        tasks,
        say,
        experiment=experiment,
        min_improvement=min_improvement,
        dry_run=dry_run,
        force=force,
        split=split,
        options=RunOptions(experiment_name, run_name),
    )


def rollback(
    tasks: Sequence[str], *, say: Say = _silent, experiment_name: str | None = None, run_name: str | None = None
) -> None:
    """Restore the previous champions of these tasks; ``say`` gets what was done."""
    from abalone.registry import rollback as rollbacks
    from abalone.tracking.runs import RunOptions

    rollbacks.rollback(tasks, say, RunOptions(experiment_name, run_name))


def load_champion(task: str) -> LoadedModel:
    """Load the champion of a task, which scores raw rows.

    Examples
    --------
    >>> shells = load_data().dataset.frame.head(2)
    >>> load_champion("classification").predict(shells).columns.tolist()
    ['label', 'probability_old', 'outside_training_range']
    """
    from abalone.registry import loading

    return loading.load_champion(task)


def predict(
    source: str,
    target: str,
    *,
    units: str = "file",
    interval: float = 0.8,
    distribution: bool = False,
    skip_bad: bool = False,
    say: Say = _silent,
    experiment_name: str | None = None,
    run_name: str | None = None,
    **streams: Any,
) -> dict[str, Any]:
    """Score a table of raw rows with both champions, as a tracked run.

    Parameters
    ----------
    source, target : str
        Table to read, and CSV file to write.
    units : str
        ``file`` for mm/200 and g/200, ``mm_g`` for millimetres and grams.
    interval, distribution
        Level of the interval, and whether to add the probability of each number of rings, where the champion knows it.
    skip_bad : bool
        Whether to leave bad rows out, and list them in a second file, instead of refusing the table.
    **streams
        ``stdout``, where ``-`` as the target is not to be ``sys.stdout``.

    Returns
    -------
    dict
        What was done: counts, versions, the id of the run.
    """
    from abalone.registry import prediction_run
    from abalone.registry.scoring import Request
    from abalone.tracking.runs import RunOptions

    request = Request(units, {"interval": interval, "distribution": distribution}, skip_bad)
    options = RunOptions(experiment_name, run_name)
    return prediction_run.predict(source, target, request, say, options=options, **streams)


def evaluate(
    source: str,
    *,
    units: str = "file",
    target: str = "auto",
    fail_if_worse: bool = False,
    say: Say = _silent,
    experiment_name: str | None = None,
    run_name: str | None = None,
) -> list[Evaluation]:
    """Score both champions on a labelled file, and say whether they are still as good as promised.

    Parameters
    ----------
    source, units, target : str
        As for ``load_data``.
    fail_if_worse : bool
        Recorded in the run; the status of the command follows it.
    """
    from abalone.registry.evaluation_run import evaluate as evaluate_champions
    from abalone.tracking.runs import RunOptions

    options = RunOptions(experiment_name, run_name)
    return evaluate_champions(source, say, units=units, target=target, fail_if_worse=fail_if_worse, options=options)


def report(
    seeds: int = 20,
    stages: dict[str, StageSettings] | None = None,
    *,
    workers: int | str = "auto",
    say: Say = _silent,
    experiment_name: str | None = None,
    run_name: str | None = None,
) -> list[Finding]:
    """Judge the guide's claims over many seeds, each with its own split.

    Parameters
    ----------
    seeds : int
    stages : dict of stage to StageSettings, optional
        By default all stages as their files have them.
    """
    with worker_processes(workers):  # begins its imports before those below
        from abalone.claims.report import run_report
        from abalone.tracking.runs import RunOptions

        return run_report(stages or known.guide_stages(), seeds, say, RunOptions(experiment_name, run_name))


def run_main(
    stages: dict[str, StageSettings] | None = None,
    rings: RingsSettings | None = None,
    *,
    trials: int = 32,
    seeds: int = 20,
    workers: int | str = "auto",
    say: Say = _silent,
    experiment_name: str | None = None,
    run_name: str | None = None,
) -> list[Result]:
    """Run everything as nested runs of one parent: report, stages, studies, promotions.

    Parameters
    ----------
    stages, rings
        Settings; by default those of the files.
    trials, seeds : int
        Trials of each task's study, and seeds of the report; 0 for none.
    """
    stages = stages or known.guide_stages()
    rings = rings or RingsSettings.from_mapping(known.read_toml("rings"))
    with worker_processes(workers):
        from abalone import main
        from abalone.tracking.runs import RunOptions

        options = RunOptions(experiment_name, run_name)
        return main.run_main(stages, say, rings=rings, trials=trials, seeds=seeds, options=options)


def read_status(experiment_name: str | None = None) -> dict[str, Any]:
    """What has been run, what is best, the champions, the studies, and what to do next."""
    from abalone import status

    return status.read_status(experiment_name)
