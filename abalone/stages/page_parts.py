"""Parts that the pages of stages and of ``rings`` share: scores, what to look at, how to load a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from abalone.evaluation.scores import noise_of_difference
from abalone.metrics import METRICS
from abalone.settings import TENSOR_OUTPUTS, RingsSettings, StageSettings, load_settings
from abalone.tracking.addresses import link, logged_model_path, run_path, runs_path
from abalone.tracking.markdown import format_score, markdown_table
from abalone.tracking.views import CURVES_VIEW, LEADERBOARDS, STAGES_VIEW

FIGURES = {
    "classification": {
        "roc.png": "ROC curve, the threshold 0.5 in red",
        "confusion.png": "confusion matrix",
    },
    "regression": {
        "predicted_actual.png": "predicted against counted rings",
        "residuals.png": "errors",
    },
}


def compare_accuracy(accuracy: float, before: float, rows: int) -> str:
    """Say how an accuracy differs from another on the same test rows, and whether that is more than noise.

    Parameters
    ----------
    accuracy, before : float
    rows : int
        Number of test rows.
    """
    difference = accuracy - before
    noise = noise_of_difference(accuracy, before, rows)
    if abs(difference) <= noise:
        return f"within the noise of one split (about ±{noise:.2f})"
    direction = "more" if difference > 0 else "less"
    return f"{abs(difference):.3f} {direction}, beyond the noise of one split (about ±{noise:.2f})"


def score_table(columns: Mapping[str, tuple[Mapping[str, float], str]], names: Sequence[str]) -> str:
    """Scores side by side, with a last column that says what each score is.

    Parameters
    ----------
    columns : mapping of header to (metrics, prefix)
        Where the scores of a column are: ``(metrics, "test/")``.
    names : sequence of str
        Scores to show.
    """
    rows = []
    for name in names:
        scores = [format_score(metrics.get(f"{prefix}{name}")) for metrics, prefix in columns.values()]
        rows.append((METRICS[name].label, *scores, METRICS[name].meaning))
    return markdown_table(("score", *columns, "what it is"), rows)


def promotion_part(settings: StageSettings | RingsSettings) -> str:
    """How to promote a run on other rows than the usual ones, which a promotion may leave out; "" for the usual."""
    usual = load_settings("rings")
    if (settings.data, settings.seed) == (usual.data, usual.seed):
        return ""
    return (
        "**To promote it**: `promote` compares the runs on one split, at first the champion's. This run is on the rows "
        f"of `{settings.data}`, seed {settings.seed}; its tag `split` has the fingerprint, and `-P split=FINGERPRINT` "
        "chooses it."
    )


def say_how_to_promote(settings: StageSettings | RingsSettings, say: Callable[[str], None] | None) -> None:
    """Tell the terminal what ``promotion_part`` tells the page."""
    part = promotion_part(settings)
    if say and part:
        say(part)


def links_to_figures(task: str, experiment_id: str, run_id: str) -> list[str]:
    """Links to the figures of the predictions of a run."""
    links = []
    for name, text in FIGURES[task].items():
        links.append(link(text, run_path(experiment_id, run_id, f"artifacts/{name}")))
    return links


def links_to_views(tasks: Sequence[str], experiment_id: str) -> list[str]:
    """Links to the views of all stages."""
    links = [
        link("all stages in the guide's order", runs_path(experiment_id, STAGES_VIEW)),
        link("their curves", runs_path(experiment_id, CURVES_VIEW, charts=True)),
    ]
    for task in tasks:
        name = LEADERBOARDS[task]
        links.append(link(f"all {name}", runs_path(experiment_id, name)))
    return links


def loading_part(experiment_id: str, model_ids: Mapping[str, str]) -> str:
    """How to load the models of a run, by task, in both flavors."""
    outputs = " or ".join(TENSOR_OUTPUTS[task] for task in model_ids)
    models = []
    as_modules = []
    as_scorers = []
    for task, model_id in model_ids.items():
        remark = f"  # {task}" if len(model_ids) > 1 else ""
        models.append(link(task if len(model_ids) > 1 else "model", logged_model_path(experiment_id, model_id)))
        as_modules.append(f'model = mlflow.pytorch.load_model("models:/{model_id}"){remark}')
        as_scorers.append(f'model = mlflow.pyfunc.load_model("models:/{model_id}"){remark}')
    return "\n\n".join([
        f"**Use it** ({', '.join(models)}): as a PyTorch module, float32 `[n, 10]` in, {outputs} out",
        _code("pytorch", as_modules),
        "or through *pyfunc*, MLflow's form of a model that takes a table: rows as in the data file, text `Sex` and "
        "seven measurements",
        _code("pyfunc", as_scorers),
    ])  # fmt: skip


def _code(flavor: str, statements: Sequence[str]) -> str:
    code = "\n".join(statements)
    return f"```python\nimport mlflow.{flavor}\n\n{code}\n```"
