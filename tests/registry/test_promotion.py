"""Promotion: who is a candidate, what the gate asks, how champion and challenger are compared, and the way back."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from helpers import ROOT, environment, mlflow_run
from mlflow.tracking import MlflowClient

from abalone.data.labels import is_old
from abalone.data.reading import SHIPPED_FILE, read
from abalone.data.splitting import split
from abalone.evaluation.scores import scores
from abalone.main import run_main
from abalone.model.columns import RAW_COLUMNS
from abalone.model.networks import build
from abalone.registry import versions
from abalone.registry.candidates import validation_rows
from abalone.registry.decision import decide
from abalone.registry.promotion import NoCandidate, crown, promote
from abalone.registry.rollback import rollback
from abalone.registry.versions import set_alias, versions
from abalone.settings import REGISTERED_MODELS, UserError, load_settings
from abalone.stages.stage import run_stage
from abalone.tracking.flavor import log_model
from abalone.tracking.run_logging import log_files, log_tags
from abalone.tracking.runs import run

CLASSIFIER = REGISTERED_MODELS["classification"]


@pytest.fixture
def client(store) -> MlflowClient:
    return MlflowClient()


def candidate(
    name: str,
    skill: float,
    *,
    task: str = "classification",
    experiment: str = "abalone",
    seed: int = 0,
    noise: float = 0.0,
    draw: int = 0,
    test: float = 0.5,
    metrics: dict[str, float | None] | None = None,
    tags: dict[str, str] | None = None,
    has_model: bool = True,
) -> str:
    """A finished run as a stage leaves it, with planted validation predictions: ``skill`` 0 knows nothing, 1 all."""
    dataset = read()
    rows = split(dataset, seed)
    frame = dataset.frame.iloc[rows.val]
    rings = frame["Rings"].to_numpy()
    if task == "classification":
        truth, plain, column = is_old(rings), 0.5, "probability_old"
    else:
        truth, plain, column = rings, rings.mean(), "predicted_rings"
    predicted = plain + skill * (truth - plain) + noise * np.random.default_rng(draw).normal(size=len(rings))
    predicted = predicted.clip(0.01, 0.99) if task == "classification" else predicted
    metric = selection.SELECTION[task]
    final = {
        f"{metric}/val": scores(task, rings, predicted)[metric],
        f"baseline_{metric}/val": scores(task, rings, np.full(len(rings), plain))[metric],
        f"{metric}/test": test,
    }
    final = {key: value for key, value in {**final, **(metrics or {})}.items() if value is not None}
    with run(name, {"stage": name, "task": task}, experiment_name=experiment) as run_id:
        if has_model:
            settings = {**vars(load_settings("regress" if task == "regression" else "encode")), "hidden_sizes": [4]}
            shown = {key: settings[key] for key in ("task", "features", "hidden_sizes", "dropout", "clip")}
            log_model(build(settings).eval(), shown, dataset.frame.head(2), {"task": task})
        table = frame.assign(**{column: predicted.round(9)}).rename_axis("row").reset_index()
        log_files(run_id, texts={}, figures={}, tables={"predictions/val.json": table})
        for key, value in final.items():
            mlflow.log_metric(key, value)
        mlflow.log_params({"data": "uci", "seed": seed})
        log_tags(run_id, {"dataset": dataset.sha256[:12], "split": rows.fingerprint} | (tags or {}))
    return run_id


def promote(task: str = "classification", **options) -> registry.Decision:
    [decision] = promote((task,), lambda text: None, **options)
    return decision


def champion(alias: str = "champion", name: str = CLASSIFIER):
    return MlflowClient().get_model_version_by_alias(name, alias)


def refusals(decision) -> dict[str, str]:
    return {c.name: c.refusal for c in decision.candidates}


def test_the_best_by_validation_wins_and_its_version_says_why(client):
    candidate("weak", 0.3, test=0.1)
    best = candidate("strong", 0.6, test=0.7)
    decision = promote()
    version = champion()
    assert decision.promotes and decision.version == int(version.version) == 1
    assert version.run_id == best
    assert all(
        word in version.description for word in ("strong", "the first champion", "better than the baseline", "0.7000")
    )
    run = client.get_run(best)
    assert float(version.tags["score"]) == run.data.metrics["log_loss/val"]
    assert (version.tags["split"], version.tags["dataset"]) == (run.data.tags["split"], run.data.tags["dataset"])
    assert version.tags["log_loss/test"] == "0.70000"
    assert version.tags["signature"].startswith("Sex string, Length double")
    info = mlflow.models.get_model_info(f"models:/{CLASSIFIER}@champion")
    assert info.signature.outputs.input_names() == ["label", "probability_old"]
    assert [column["name"] for column in info.metadata["inputs"]] == list(RAW_COLUMNS)


def test_the_page_of_the_registered_model_tells_a_stranger_what_it_needs(client):
    for task, output in (("classification", "probability_old"), ("regression", "age_years")):
        candidate("run", 0.6, task=task)
        promote(task)
        page = client.get_registered_model(REGISTERED_MODELS[task]).description
        for word in ("Shell weight", "mm / 200", "g / 200", output, "load_model", "mlflow models serve", "Limits"):
            assert word in page, word
        assert f"models:/{REGISTERED_MODELS[task]}@champion" in page


def test_a_promotion_is_a_run_with_a_table_of_all_candidates(client):
    candidate("weak", 0.3)
    candidate("strong", 0.6)
    promote()
    [run] = client.search_runs(["1"], "tags.stage = 'promote'")
    assert run.info.status == "FINISHED" and run.data.tags["champion_classification"] == "1"
    assert "strong" in run.data.tags["mlflow.note.content"]
    table = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/decision_classification.json")
    assert [(row[0], row[-1]) for row in table["data"]] == [("strong", "**best**"), ("weak", "behind the best")]
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"])[0]["path"] == "decision_classification.json"


def test_a_description_of_many_candidates_stays_within_what_mlflow_holds(client):
    for number in range(12):
        candidate(f"{'x' * 200}{number}", 0.3, has_model=False)
    candidate("good", 0.5)
    promote()
    [run] = client.search_runs(["1"], "tags.stage = 'promote'")
    assert "and 3 more" in run.data.tags["mlflow.note.content"]
    full = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/decision.md")
    assert full.count("refused: no model") == 12


def test_promoting_again_changes_nothing_and_says_so(client):
    candidate("only", 0.5)
    promote()
    before = client.get_registered_model(CLASSIFIER).last_updated_timestamp
    told = []
    [decision] = promote(("classification",), told.append)
    assert not decision.promotes and "the champion already; nothing changes" in told[0]
    assert len(client.search_model_versions(f"name = '{CLASSIFIER}'")) == 1
    assert client.get_registered_model(CLASSIFIER).last_updated_timestamp == before


@pytest.mark.parametrize(
    "flaw, reason",
    [
        ({"has_model": False}, "no model"),
        ({"metrics": {"log_loss/val": None}}, "no log_loss/val"),
        ({"metrics": {"log_loss/val": math.nan}}, "log_loss/val is not finite"),
        ({"metrics": {"log_loss/val": -math.inf}}, "log_loss/val is not finite"),
        ({"metrics": {"log_loss/val": 0.68}}, "not 5% better than the baseline"),
        ({"metrics": {"baseline_log_loss/val": None}}, "not 5% better than the baseline"),
        ({"tags": {"split": ""}}, "no fingerprint"),
        ({"tags": {"split": "another"}}, "other rows"),
        ({"tags": {"dataset": "another"}}, "other rows"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_with_a_flaw_is_refused_by_name(client, flaw, reason):
    candidate("flawed", 0.9, **flaw)
    candidate("sound", 0.3)
    decision = promote()
    assert decision.challenger.name == "sound"
    assert reason in refusals(decision)["flawed"]


def test_a_run_that_did_not_finish_is_refused(client):
    run_id = candidate("killed", 0.9)
    candidate("sound", 0.3)
    client.set_terminated(run_id, "KILLED")
    assert refusals(promote()) == {"sound": "", "killed": "status KILLED"}


@pytest.mark.parametrize("lost", ["weights.pt", "predictions"])
def test_a_run_whose_files_are_lost_is_refused(client, lost):
    run_id = candidate("lost", 0.9)
    candidate("sound", 0.3)
    [path] = (p for p in Path("mlruns").rglob(lost) if run_id in str(p) or (lost == "weights.pt" and in_run(p, run_id)))
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    decision = promote()
    assert decision.challenger.name == "sound" and "cannot be loaded" in refusals(decision)["lost"]


def in_run(path: Path, run_id: str) -> bool:
    return f"run_id: {run_id}" in (path.parent / "MLmodel").read_text()


def test_other_runs_of_the_experiment_are_no_candidates(client):
    candidate("rings", 0.9, task="regression")
    candidate("sound", 0.3)
    promote()
    assert set(refusals(promote())) == {"sound"}


def test_a_better_run_replaces_the_champion_which_becomes_previous(client):
    candidate("first", 0.4, task="regression")
    promote("regression")
    candidate("second", 0.6, task="regression")
    decision = promote("regression")
    assert decision.promotes and "inside the noise" not in decision.reason
    name = REGISTERED_MODELS["regression"]
    assert (champion("champion", name).version, champion("previous", name).version) == (2, 1)


@pytest.mark.parametrize("skill", [0.5, 0.4], ids=["equal", "worse"])
def test_a_run_that_is_not_better_does_not(client, skill):
    candidate("first", 0.5)
    promote()
    client.delete_run(champion().run_id)  # so that it is no candidate itself
    candidate("second", skill)
    decision = promote()
    assert not decision.promotes and "not better than the champion: log_loss +" in decision.reason
    assert champion().version == 1


def test_an_improvement_inside_the_noise_is_promoted_and_called_so(client):
    candidate("first", 0.5, noise=0.3)
    promote()
    candidate("second", 0.5, noise=0.298, draw=1)
    decision = promote(dry_run=True)
    assert decision.promotes and "inside the noise" in decision.reason and "95 % interval" in decision.reason
    kept = promote(min_improvement=0.1)
    assert not kept.promotes and "better by less than min_improvement=0.1, inside the noise" in kept.reason
    assert champion().version == 1
    assert promote().promotes and champion().version == 2


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_a_senseless_min_improvement_is_refused(client, value):
    with pytest.raises(UserError, match="min_improvement"):
        promote(min_improvement=value)


def test_a_dry_run_decides_but_leaves_the_registry_alone(client):
    candidate("only", 0.5)
    told = []
    promote(("classification",), told.append, dry_run=True)
    assert "would be promoted (dry run)" in told[0]
    assert not client.search_registered_models()


def test_a_champion_that_was_trained_on_todays_rows_is_left_to_force(client):
    candidate("old", 0.4)
    promote()
    candidate("new", 0.6, seed=1)
    decision = promote()
    assert not decision.promotes and champion().version == 1
    assert "211 of today's 418 validation rows trained version 1" in decision.reason and "force" in decision.reason
    assert "other rows" in refusals(decision)["old"]
    assert promote(force=True).promotes and champion().version == 2


@pytest.fixture
def two_files(own_folder) -> tuple[str, str]:
    """The data set in two files that share no row."""
    lines = SHIPPED_FILE.read_text().splitlines(keepends=True)
    for name, part in (("a.data", lines[:2000]), ("b.data", lines[2000:])):
        (own_folder / name).write_text("".join(part))
    return "a.data", "b.data"


def train_and_promote(data: str) -> registry.Decision:
    run_stage("encode", load_settings("encode", {"epochs": 3, "data": data}))
    return promote()


def test_a_champion_of_other_data_is_scored_again_on_todays_rows(client, two_files):
    train_and_promote(two_files[0])
    decision = train_and_promote(two_files[1])
    rows = validation_rows(decision.challenger.run_id)
    again = mlflow.pyfunc.load_model(f"models:/{CLASSIFIER}/1").predict(rows)["probability_old"].to_numpy()
    difference = decision.challenger.score - scores("classification", rows["Rings"].to_numpy(), again)["log_loss"]
    assert f"log_loss {difference:+.5f} against the champion (95 % interval" in decision.reason
    assert decision.promotes == (difference < 0)


def test_a_champion_whose_data_file_has_changed_is_left_to_force(client, two_files, own_folder):
    train_and_promote(two_files[0])
    with (own_folder / two_files[0]).open("a") as file:
        file.write(SHIPPED_FILE.read_text().splitlines()[-1])
    decision = train_and_promote(two_files[1])
    assert not decision.promotes and "version 1 have changed since" in decision.reason


def test_a_champion_that_nothing_is_known_of_is_left_to_force(client):
    """As when somebody has registered a model by hand."""
    candidate("by hand", 0.4)
    [model] = client.search_logged_models(["1"])
    client.create_registered_model(CLASSIFIER)
    client.create_model_version(CLASSIFIER, f"models:/{model.model_id}", model_id=model.model_id)
    client.set_registered_model_alias(CLASSIFIER, "champion", "1")
    candidate("better", 0.6)
    decision = promote()
    assert not decision.promotes and "version 1 have changed since" in decision.reason
    assert promote(force=True).promotes and champion().version == 2


def test_without_candidates_it_names_the_experiments_that_have_some_and_touches_nothing(client):
    candidate("elsewhere", 0.5, experiment="shells")
    with pytest.raises(NoCandidate, match=r"experiment 'abalone' .*shells \(1 runs\).*-P experiment=NAME"):
        promote(experiment_name="abalone")
    with pytest.raises(NoCandidate, match=r"no experiment 'typo'.*shells"):
        promote(experiment="typo")
    with pytest.raises(NoCandidate, match="regression runs fit for promotion are in: no other experiment, so"):
        promote(("classification", "regression"), lambda text: None, experiment="shells")
    assert not client.search_registered_models() and client.get_experiment_by_name("typo") is None
    assert promote(experiment="shells").promotes


def test_rollback_puts_the_previous_champion_back_and_again_undoes_it(client):
    for name, skill in (("first", 0.4), ("second", 0.6)):
        candidate(name, skill)
        promote()
    told = []
    rollback(("classification",), told.append)
    assert "version 1 is champion again; 2 is previous" in told[0]
    assert (champion().version, champion("previous").version) == (1, 2)
    rollback(("classification",), told.append)
    assert (champion().version, champion("previous").version) == (2, 1)
    assert not promote().promotes
    assert all("rolled_back" not in version.tags for version in versions("classification"))


def test_no_promotion_brings_back_what_was_rolled_back_not_even_its_twin(client):
    for name, skill in (("first", 0.4), ("second", 0.6)):
        candidate(name, skill)
        promote()
    rollback(("classification",), lambda text: None)
    candidate("twin", 0.6)
    decision = promote()
    assert not decision.promotes and champion().version == 1
    assert "rolled back" in refusals(decision)["second"] and "rolled back" in refusals(decision)["twin"]
    candidate("third", 0.7)
    assert promote().promotes and champion("previous").version == 1


def test_a_second_version_of_what_was_rolled_back_does_not_come_back_either(client):
    for name, skill in (("first", 0.4), ("second", 0.6)):
        candidate(name, skill)
        decision = decide("classification", client.get_experiment_by_name("abalone").experiment_id)
        crown(decision, decision.challenger.run_id)
    crown(decision, decision.challenger.run_id)  # as another process at the same moment, or one killed
    rollback(("classification",), lambda text: None)
    candidate("third", 0.5)
    assert promote().promotes and champion().version == 4


def test_a_run_without_a_test_score_can_win(client):
    candidate("untested", 0.6, metrics={"log_loss/test": None})
    assert promote().promotes and "log_loss/test" not in champion().tags


def test_a_newer_run_that_is_too_weak_does_not_say_which_rows_are_todays(client):
    candidate("sound", 0.6)
    candidate("weak", 0.01, seed=1)
    decision = promote()
    assert decision.promotes and decision.challenger.name == "sound"
    assert "better than the baseline" in refusals(decision)["weak"]


def test_what_cannot_be_promoted_is_not_recommended(client):
    candidate("modelless", 0.6, has_model=False)
    candidate("weak", 0.01, experiment="elsewhere")
    with pytest.raises(NoCandidate, match="no other experiment") as error:
        promote(experiment="abalone")
    assert "-P experiment" not in str(error.value)


def test_a_promotion_says_what_was_asked_of_it_and_what_the_gate_is(client):
    candidate("only", 0.6)
    promote(min_improvement=0.002)
    [run] = client.search_runs(["1"], "tags.stage = 'promote'")
    asked = {"task": "classification", "experiment": "", "min_improvement": "0.002", "dry_run": "false"}
    assert run.data.params == {**asked, "force": "false"}
    assert "the gate is 5% better than the baseline" in run.data.tags["mlflow.note.content"]


def test_rollback_without_a_previous_champion_changes_nothing(client):
    candidate("only", 0.5)
    with pytest.raises(UserError, match="no version with the alias champion"):
        rollback(("classification",), lambda text: None)
    promote()
    with pytest.raises(UserError, match="no version with the alias previous"):
        rollback(("classification",), lambda text: None)
    assert champion().version == 1 and champion().tags.get("rolled_back") is None


@pytest.mark.parametrize("order", [("good", "better"), ("better", "good")])
@pytest.mark.parametrize("is_first", [True, False], ids=["first champion", "replaces one"])
def test_of_two_promotions_that_decided_at_the_same_moment_the_better_stays(client, order, is_first):
    if not is_first:
        candidate("old", 0.3, experiment="old")
        promote(experiment="old")
    skills = {"good": 0.5, "better": 0.7}
    decisions = {}
    for name, skill in skills.items():
        candidate(name, skill, experiment=name)
        decisions[name] = registry.decide("classification", client.get_experiment_by_name(name).experiment_id)
    assert all(decision.promotes for decision in decisions.values())
    outcome = {name: crown(decisions[name], "run") for name in order}
    assert client.get_run(champion().run_id).info.run_name == "better"
    assert outcome["better"].promotes
    if order[0] == "better":
        assert not outcome["good"].promotes and "another promotion" in outcome["good"].reason
    if not is_first:
        assert champion("previous").version == 1


def test_an_alias_that_moves_while_it_is_set_is_set_again(client, monkeypatch):
    """The worse promotion sets the alias after the better one has looked for the last time."""
    decisions = {}
    for name, skill in (("good", 0.5), ("better", 0.7)):
        candidate(name, skill, experiment=name)
        decisions[name] = registry.decide("classification", client.get_experiment_by_name(name).experiment_id)
    set_alias, nested = set_alias, []

    def late(client, name, alias, version):
        if not nested:  # between the reading of the worse and its writing, the better does all that it does
            nested.append(True)
            crown(decisions["better"], "run")
        set_alias(client, name, alias, version)

    monkeypatch.setattr(versions, "set_alias", late)
    assert not crown(decisions["good"], "run").promotes
    assert client.get_run(champion().run_id).info.run_name == "better"


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_two_real_promotions_at_once_leave_the_better(client, attempt):
    for name, skill in (("good", 0.5), ("better", 0.7)):
        candidate(name, skill, experiment=name)
    command = [sys.executable, "-m", "abalone", "promote", "--task", "classification", "--experiment"]
    env = {**environment(), "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": env}
    both = [subprocess.Popen([*command, name], **pipes) for name in ("better", "good")]
    for process in both:
        _, complaint = process.communicate(timeout=120)
        assert process.returncode == 0, complaint
    aliases = client.get_registered_model(CLASSIFIER).aliases
    assert client.get_run(champion().run_id).info.run_name == "better"
    assert set(aliases) <= {"champion", "previous"}
    assert aliases.get("previous") != aliases["champion"]


@pytest.mark.slow
def test_main_ends_with_a_promotion(client):
    told = []
    experiments = {name: load_settings(name, {"epochs": 3}) for name in ("encode", "regress")}
    run_main(experiments, told.append)
    assert {model.name: set(model.aliases) for model in client.search_registered_models()} == {
        name: {"champion"} for name in REGISTERED_MODELS.values()
    }
    parent = client.search_runs(["1"], "tags.stage = 'main'")[0].info.run_id
    promotions = client.search_runs(["1"], "tags.stage = 'promote'")
    assert {run.data.tags["mlflow.parentRunId"] for run in promotions} == {parent}
    note = client.get_experiment("1").tags["mlflow.note.content"]
    assert all(f"models:/{name}@champion`, version 1" in note for name in REGISTERED_MODELS.values())


def test_main_with_models_too_weak_to_promote_still_succeeds(client):
    told = []
    naive = load_settings("regress", {"epochs": 1, "learning_rate": 1e-6})
    run_main({"regress": naive}, told.append)
    assert any(line.startswith("No promotion: no candidate for regression") for line in told)
    assert not client.search_registered_models()


@pytest.mark.slow
def test_promote_and_rollback_by_mlflow_run(client):
    empty = mlflow_run("-e", "promote", "-P", "task=classification", "--experiment-name", "abalone")
    assert empty.returncode != 0 and "no candidate for classification" in empty.stderr
    candidate("first", 0.4)
    for name, skill in (("first", 0.4), ("second", 0.6)):
        candidate(name, skill)
        done = mlflow_run("-e", "promote", "-P", "task=classification", "-P", "experiment=abalone")
        assert done.returncode == 0 and "**promoted**" in done.stdout, done.stderr
    done = mlflow_run("-e", "rollback", "-P", "task=classification")
    assert done.returncode == 0 and "version 1 is champion again" in done.stdout, done.stderr
    states = {run.info.status for e in ("0", "1") for run in client.search_runs([e])}
    assert states == {"FINISHED", "FAILED"}
