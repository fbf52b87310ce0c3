"""The page of a stage's run: the answer to its question first, then scores, what to look at, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from abalone.evaluation.overfitting import OVERFIT_AT
from abalone.evaluation.scores import noise_of_difference
from abalone.metrics import METRICS, metrics_of
from abalone.settings import STAGES, StageSettings
from abalone.stages.earlier_runs import EarlierRun
from abalone.stages.lessons import lesson_of
from abalone.stages.page_parts import (
    compare_accuracy,
    links_to_figures,
    links_to_views,
    loading_part,
    promotion_part,
    score_table,
)
from abalone.tracking.addresses import link, run_path
from abalone.tracking.logged_tables import MOST_ROWS_AS_JSON, SAMPLE_ROWS
from abalone.tracking.markdown import data_part, format_score

NO_CHANGE = 0.0005  # nats; smaller changes are 0.000 in print
REMEDIES = {"encode": "without a remedy", "regularize": "with weight decay"}  # how a page names what it compares with
BASELINES = {"classification": "majority class", "regression": "training mean"}


@dataclass(frozen=True)
class StageFacts:
    """The facts that the page of a stage is written from.

    Parameters
    ----------
    stage : str
        Name of the stage, or ``tuned``.
    settings : StageSettings
    metrics : mapping
        Final metrics such as ``test/accuracy`` and ``baseline/test_accuracy``, ``best_epoch`` and ``reported_epoch``.
    test_rows : int
        Number of test rows.
    experiment_id, run_id, model_id : str
        Of the run and its logged model.
    compared : sequence of EarlierRun
        Runs to compare with, the stage before first.
    seeds : str
        What many seeds say; "" if that is not known.
    understood : str
        How the data file was read.
    """

    stage: str
    settings: StageSettings
    metrics: Mapping[str, float]
    test_rows: int
    experiment_id: str
    run_id: str
    model_id: str
    compared: Sequence[EarlierRun] = ()
    seeds: str = ""
    understood: str = ""

    @property
    def before(self) -> EarlierRun | None:
        """The stage before, if there is a run of it."""
        return self.compared[0] if self.compared else None

    @property
    def rise(self) -> float | None:
        """Rise of the test loss after epoch ``OVERFIT_AT``."""
        return self.metrics.get("overfit/test_rise")


def stage_page(facts: StageFacts) -> str:
    """The description of a stage's run, in Markdown."""
    paragraphs = [
        _answer(facts),
        _scores(facts),
        _reported_epoch(facts),
        data_part(facts.understood),
        _what_to_look_at(facts),
        _what_comes_next(facts.stage),
        promotion_part(facts.settings),
        loading_part(facts.experiment_id, {facts.settings.task: facts.model_id}),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _answer(facts: StageFacts) -> str:
    """The first paragraph. The UI folds a page after about five lines, so the most important comes first."""
    if facts.stage not in STAGES:
        return f"**The best settings that a study found, trained again.** {_score_sentence(facts)}"
    lesson = lesson_of(facts.stage)
    sentences = [f"**{lesson.question}**"]
    score = _score_sentence(facts)
    guide = [lesson.guide_says, _agreement(facts)]
    if facts.stage == "regularize":  # the guide speaks of the test loss
        sentences += [_rise_sentence(facts), *guide, facts.seeds, score]
    elif facts.stage == "dropout":  # of the model as a whole
        sentences += [_rise_sentence(facts), score, *guide, facts.seeds]
    elif facts.stage == "encode":
        sentences += [score, _rise_sentence(facts), *guide, facts.seeds]
    else:
        sentences += [score, *guide, facts.seeds]
    return " ".join(sentence for sentence in sentences if sentence)


def _score_sentence(facts: StageFacts) -> str:
    """The main test score, beside the stage before or the baseline."""
    name = metrics_of(facts.settings.task)[0]
    score = facts.metrics[f"test/{name}"]
    text = f"Test {METRICS[name].label} {format_score(score)}"
    if name == "rmse":
        text += f" ({METRICS[name].meaning})"
    before = facts.before
    score_before = before.metrics.get(f"test/{name}") if before else None
    if before is None or score_before is None:
        baseline = format_score(facts.metrics.get(f"baseline/test_{name}"))
        return f"{text}; always predicting the {BASELINES[facts.settings.task]}: {baseline}."
    text += f", against {format_score(score_before)} in {link(before.stage, before.path)}"
    if name == "accuracy":
        text += f": {compare_accuracy(score, score_before, facts.test_rows)}"
    return f"{text}."


def _rise_sentence(facts: StageFacts) -> str:
    """How the test loss changes after the epoch at which the guide sees it rise, here and in the earlier runs."""
    if facts.rise is None:
        return f"This run is too short for overfitting, which the guide sees after epoch {OVERFIT_AT}."
    text = f"The test loss {change(facts.rise)} nats from epoch {OVERFIT_AT} to epoch {facts.settings.epochs}"
    for run in facts.compared:
        rise = run.metrics.get("overfit/test_rise")
        if run.stage in REMEDIES and rise is not None:
            text += f"; {REMEDIES[run.stage]} ({link(run.stage, run.path)}) it {change(rise)}"
    return f"{text}."


def change(rise: float) -> str:
    """A change of the loss in words, such as "rises by 0.016"."""
    if abs(rise) < NO_CHANGE:
        return "changes by less than 0.001"
    if rise > 0:
        return f"rises by {rise:.3f}"
    return f"falls by {-rise:.3f}"


def _agreement(facts: StageFacts) -> str:
    """Whether this run shows what the guide says; empty if it says nothing, or there is nothing to compare."""
    if facts.stage == "encode" and facts.rise is not None:
        return "This run shows the rise too." if facts.rise >= NO_CHANGE else "In this run it does not rise."
    if facts.before is None:
        return ""
    if facts.stage == "regularize":
        rise_before = facts.before.metrics.get("overfit/test_rise")
        if facts.rise is None or rise_before is None:
            return ""
        return "This run agrees." if facts.rise < rise_before else "This run shows the opposite."
    if facts.stage in ("deepen", "dropout"):
        accuracy = facts.metrics["test/accuracy"]
        before = facts.before.metrics.get("test/accuracy", accuracy)
        gain = accuracy - before if facts.stage == "deepen" else before - accuracy
        if abs(gain) <= noise_of_difference(accuracy, before, facts.test_rows):
            return "One split cannot tell."
        return "This run agrees." if gain > 0 else "This run shows the opposite."
    return ""


def _scores(facts: StageFacts) -> str:
    columns = {"this run": (facts.metrics, "test/"), "baseline": (facts.metrics, "baseline/test_")}
    for run in facts.compared:
        columns[link(run.stage, run.path)] = (run.metrics, "test/")
    table = score_table(columns, metrics_of(facts.settings.task))
    return f"Scores on the {facts.test_rows} test rows:\n\n{table}"


def _reported_epoch(facts: StageFacts) -> str:
    reported = facts.metrics["reported_epoch"]
    best = facts.metrics["best_epoch"]
    baseline = f"The baseline always predicts the {BASELINES[facts.settings.task]}."
    if reported == best:
        return f"They are from epoch {best:.0f} of {facts.settings.epochs}, with the lowest validation loss. {baseline}"
    return (
        f"They are from epoch {reported:.0f} of {facts.settings.epochs}; the validation loss was lowest at epoch "
        f"{best:.0f}. {baseline}"
    )


def _what_to_look_at(facts: StageFacts) -> str:
    task = facts.settings.task
    table = "prediction for each test row"
    if facts.test_rows > MOST_ROWS_AS_JSON:
        table = f"predictions for {SAMPLE_ROWS:,} of the test rows (`predictions/test.parquet` has all of them)"
    files = [
        link("curves", run_path(facts.experiment_id, facts.run_id, "artifacts/curves.png")),
        *links_to_figures(task, facts.experiment_id, facts.run_id),
        link(table, run_path(facts.experiment_id, facts.run_id, "artifacts/predictions/test.json")),
    ]
    others = links_to_views([task], facts.experiment_id)
    return f"**Look at** this run's {', '.join(files)}; beside the other runs: {', '.join(others)}."


def _what_comes_next(stage: str) -> str:
    names = [*STAGES, "rings"]
    if stage not in STAGES:
        return "**Next**: `promote` compares all runs by validation and makes the best one champion."
    following = names[names.index(stage) + 1]
    if following == "rings":
        return "**Next**: `rings`, beyond the guide: all ten features and one distribution of rings for both tasks."
    return f"**Next**: `{following}`. {lesson_of(following).question}"
