"""The ring distribution: what an ensemble is, what its probabilities mean, and what they say of animals never seen."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import environment
from mlflow.tracking import MlflowClient

from abalone.data.reading import read
from abalone.data.splitting import split
from abalone.evaluation.explanations import partial_dependence, permutation_importance
from abalone.evaluation.scores import predict, scores
from abalone.main import run_main
from abalone.model.columns import FEATURES, MEASUREMENTS, OLD_FROM_RINGS, RAW_COLUMNS
from abalone.model.features import Derive, encode
from abalone.model.networks import (
    THRESHOLDS,
    RingClassifier,
    RingDistribution,
    RingRegressor,
    mean_rings,
    ring_interval,
)
from abalone.registry.promotion import promote
from abalone.registry.scoring import score_csv
from abalone.settings import PREDICTION_COLUMNS, REGISTERED_MODELS, TASKS, load_settings
from abalone.stages.rings import run_rings
from abalone.stages.stage import run_stage
from abalone.training.history import TrainingDiverged
from abalone.training.ring_ensemble import answers, fit_rings, threshold_targets

FRAME = read().frame
X, RINGS = encode(FRAME), FRAME["Rings"].to_numpy()
ROWS = split(read(), 0)
SHORT = {"members": 3, "epochs": 4, "hidden_sizes": "16,16", "average": 0.5}


def fitted(train: np.ndarray = ROWS.train, x: torch.Tensor = X, **overrides) -> RingDistribution:
    return fit_rings(load_settings("rings", {**SHORT, **overrides}), x, RINGS, train)[0]


@pytest.fixture(scope="module")
def short() -> RingDistribution:
    """A few small members after a few epochs, which is enough for all that holds of any."""
    return fitted()


@pytest.fixture(scope="module")
def whole() -> RingDistribution:
    """The stage as it stands, on the training rows."""
    return fit_rings(load_settings("rings"), X, RINGS, ROWS.train)[0]


@torch.no_grad()
def probabilities(distribution: RingDistribution, x: torch.Tensor = X) -> torch.Tensor:
    return distribution(x)


def member(distribution: RingDistribution, k: int) -> RingDistribution:
    """One of the ensemble, alone."""
    alone = RingDistribution(1, [weight.shape[2] for weight in distribution.weights[:-1]])
    state = {name: value[k : k + 1] if value.ndim == 3 else value for name, value in distribution.state_dict().items()}
    alone.load_state_dict(state)
    return alone


def test_the_ensemble_is_the_mean_of_its_members(short):
    each = torch.stack([probabilities(member(short, k)) for k in range(3)])
    assert torch.allclose(probabilities(short), each.mean(0), atol=1e-6)
    assert (each[0] - each[1]).abs().max() > 0.01, "each member has weights of its own"


def test_a_member_does_not_depend_on_how_many_there_are(short):
    alone = fitted(members=1)
    assert torch.allclose(probabilities(alone), probabilities(member(short, 0)), atol=1e-4)


def test_more_rings_are_never_more_probable_than_fewer(short):
    wild = RingDistribution(2, [8])
    for parameter in wild.parameters():
        torch.nn.init.normal_(parameter, std=3.0, generator=torch.Generator().manual_seed(0))
    for distribution in (short, wild):
        p = probabilities(distribution)
        assert p.shape == (len(X), 28) and p.min() >= 0 and p.max() <= 1
        assert (p.diff(dim=1) <= 1e-7).all()


def test_both_models_say_what_the_distribution_says(short):
    p = probabilities(short)
    old = p[:, list(THRESHOLDS).index(OLD_FROM_RINGS)].double().numpy()
    with torch.no_grad():
        logits, rings = RingClassifier(short)(X), RingRegressor(short)(X)
    assert logits.shape == (len(X), 2) and rings.shape == (len(X), 1) and logits.dtype == rings.dtype == torch.float32
    assert predict(RingClassifier(short), X) == pytest.approx(old, abs=1e-6)
    share = -torch.cat([torch.ones(len(X), 1), p, torch.zeros(len(X), 1)], 1).diff(dim=1)  # [n, 29], of 1 to 29 rings
    assert share[:, OLD_FROM_RINGS - 1 :].sum(1).numpy() == pytest.approx(old, abs=1e-5)
    mean = (share.double() * torch.arange(1, 30)).sum(1).numpy()
    assert rings[:, 0].numpy() == pytest.approx(mean, abs=1e-4)


def test_what_is_certain_has_finite_logits(short):
    certain = RingDistribution(1, [4])
    for sign in (1, -1):
        torch.nn.init.constant_(certain.biases[-1], 200.0 * sign)
        logits = RingClassifier(certain)(X[:2])
        assert logits.isfinite().all() and logits.softmax(1)[0, 1].item() == pytest.approx(float(sign > 0))


def at_least(shares: dict[int, float]) -> torch.Tensor:
    """P(rings >= t) [1, 28] of the share of each number of rings."""
    return torch.tensor([[sum(share for rings, share in shares.items() if rings >= t) for t in THRESHOLDS]])


@pytest.mark.parametrize(
    "shares, interval",
    [
        ({9: 1.0}, (9, 9)),
        ({1: 1.0}, (1, 1)),
        ({29: 1.0}, (29, 29)),
        ({9: 0.1, 10: 0.8, 11: 0.1}, (10, 10)),
        ({8: 0.21, 9: 0.2, 10: 0.16, 11: 0.2, 12: 0.23}, (9, 12)),
        ({8: 0.25, 9: 0.5, 20: 0.25}, (8, 20)),
    ],
)
def test_the_interval_of_a_known_distribution(shares, interval):
    low, high = ring_interval(at_least(shares).double())
    assert (low.item(), high.item()) == interval


def test_targets_are_one_up_to_the_number_of_rings():
    assert threshold_targets(np.array([1, 2, 29])).sum(1).tolist() == [0, 1, 28]
    assert (mean_rings(threshold_targets(RINGS)).numpy() == RINGS).all()


def test_rows_outside_training_change_nothing(short):
    changed = X.clone()
    changed[np.concatenate([ROWS.val, ROWS.test]), 3:] *= 10
    again = fitted(x=changed)
    assert all(torch.equal(a, b) for a, b in zip(short.state_dict().values(), again.state_dict().values()))
    assert not torch.equal(Derive().fit(X[ROWS.train]).mean, Derive().fit(X).mean)


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(short):
    def bits(distribution):
        return torch.cat([p.detach().flatten() for p in distribution.parameters()])

    assert torch.equal(bits(fitted()), bits(short))
    assert not torch.equal(bits(fitted(seed=1)), bits(short))


def test_curves_of_watched_rows_leave_the_weights_alone(short):
    watched, curves = fit_rings(load_settings("rings", SHORT), X, RINGS, ROWS.train, ROWS.val)
    assert set(curves) == {"loss/train", "loss/val"} and all(len(values) == 4 for values in curves.values())
    assert curves["loss/train"][-1] < curves["loss/train"][0]
    assert torch.equal(probabilities(watched), probabilities(short))


def test_derived_features_are_finite_whatever_is_accepted():
    rows = torch.zeros(3, len(FEATURES))
    rows[1, 3:] = 1.0
    rows[2, 3:] = torch.tensor([8.15, 6.5, 11.3, 28.255, 14.88, 7.6, 10.05])
    z = Derive().fit(X)(rows)
    assert z.shape == (3, Derive.outputs) and z.isfinite().all() and z.abs().max() <= 4
    assert torch.equal(Derive().fit(X)(X)[:, :3], X[:, :3]), "one-hot columns pass as they are"


def test_a_diverging_training_says_so():
    x = X.clone()
    x[ROWS.train[0], 3] = torch.nan
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        fitted(x=x)


def heavier_shell(x: torch.Tensor, factor: float) -> torch.Tensor:
    """The same animals with a heavier shell, which makes the whole heavier by as much; size and flesh stay."""
    x, shell, whole = x.clone(), FEATURES.index("Shell weight"), FEATURES.index("Whole weight")
    x[:, whole] += (factor - 1) * x[:, shell]
    x[:, shell] *= factor
    return x


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.05, 1.1, 1.2])
def test_a_heavier_shell_at_equal_size_is_older_on_average(whole, factor):
    x = X[ROWS.val]
    before, after = (predict(RingRegressor(whole), rows) for rows in (x, heavier_shell(x, factor)))
    print(f"x{factor}: {(after - before).mean():+.3f} rings, {(after > before).mean():.1%} of rows older")
    assert (after - before).mean() > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_interval_holds_four_of_five_animals_of_every_validation_fold(seed):
    """Five folds of the half that is not for test; each fold is predicted by a fit on the other four."""
    rows = split(read(), seed)
    first = np.random.default_rng(seed).permutation(np.concatenate([rows.train, rows.val]))
    covered = []
    for fold in np.array_split(first, 5):
        experiment = load_settings("rings", {"seed": seed, "members": 8})
        p = probabilities(fit_rings(experiment, X, RINGS, np.setdiff1d(first, fold))[0], X[fold])
        low, high = (end.numpy() for end in ring_interval(p))
        covered.append((low <= RINGS[fold]) & (RINGS[fold] <= high))
        assert 0.72 <= covered[-1].mean() <= 0.88, "one fold of 418: four standard errors"
    print([round(fold.mean(), 3) for fold in covered])
    assert 0.76 <= np.concatenate(covered).mean() <= 0.84


@pytest.mark.slow
def test_a_fit_takes_at_most_four_seconds_of_one_processor():
    began = time.process_time()
    fit_rings(load_settings("rings"), X, RINGS, np.concatenate([ROWS.train, ROWS.val]))
    spent = time.process_time() - began
    print(f"{spent:.2f} CPU-seconds")
    assert spent <= 4


@pytest.fixture
def run(store):
    """The stage at its smallest, and the run that MLflow keeps of it."""
    result = run_rings(load_settings("rings", SHORT))
    return MlflowClient().get_run(result.run_id)


def table(run_id: str, part: str) -> pd.DataFrame:
    return pd.DataFrame(**mlflow.artifacts.load_dict(f"runs:/{run_id}/predictions/{part}.json"))


def models(run_id: str) -> dict[str, str]:
    """The addresses of a run's models by task."""
    client = MlflowClient()
    found = client.search_logged_models([client.get_run(run_id).info.experiment_id])
    return {model.params["task"]: f"models:/{model.model_id}" for model in found}


def test_one_run_holds_both_tasks_and_how_far_they_can_be_believed(run):
    metrics, tags = run.data.metrics, run.data.tags
    assert (tags["stage"], tags["task"], tags["guide_section"]) == (
        *("rings", "classification, regression"),
        "beyond the guide",
    )
    assert run.data.params == load_settings("rings", SHORT).as_text()
    for part in ("val", "test"):
        data = table(run.info.run_id, part)
        rings = data["Rings"].to_numpy()
        for task, column in PREDICTION_COLUMNS.items():
            for name, value in scores(task, rings, data[column].to_numpy()).items():
                assert metrics[f"{name}/{part}"] == pytest.approx(value, abs=1e-6)
                assert f"baseline_{name}/{part}" in metrics
        held = data["Rings"].between(data["rings_low"], data["rings_high"])
        assert metrics[f"coverage80/{part}"] == pytest.approx(held.mean())
        assert 0 <= metrics[f"ece/{part}"] <= 1
    history = MlflowClient().get_metric_history(run.info.run_id, "loss/val")
    assert [point.step for point in history] == [1, 2, 3, 4]
    card = tags["mlflow.note.content"]
    assert f"calibration error {metrics['ece/val']:.3f}" in card and f"{metrics['coverage80/test']:.1%} on test" in card
    assert all(uri in card for uri in models(run.info.run_id).values())
    figures = {item.path for item in MlflowClient().list_artifacts(run.info.run_id) if item.path.endswith(".png")}
    explaining = {"importance.png", "partial_dependence.png", "reliability.png", "curves.png"}
    assert figures == explaining | {"roc.png", "confusion.png", "predicted_actual.png", "residuals.png"}


@pytest.mark.parametrize("refit", ["true", "false"])
def test_validation_scores_are_of_the_training_rows_and_the_logged_model_of_both(store, refit):
    result = run_rings(load_settings("rings", {**SHORT, "refit": refit}))
    known = np.concatenate([ROWS.train, ROWS.val]) if refit == "true" else ROWS.train
    validated, logged = fitted(), fitted(known)
    val, test = table(result.run_id, "val"), table(result.run_id, "test")
    expected = predict(RingRegressor(validated), X[ROWS.val]), predict(RingRegressor(logged), X[ROWS.test])
    assert val["predicted_rings"].to_numpy() == pytest.approx(expected[0], abs=1e-5)
    assert test["predicted_rings"].to_numpy() == pytest.approx(expected[1], abs=1e-5)
    loaded = mlflow.pytorch.load_model(models(result.run_id)["regression"])
    assert predict(loaded, X[ROWS.test]) == pytest.approx(expected[1], abs=1e-5)
    note = MlflowClient().get_run(result.run_id).data.tags["mlflow.note.content"]
    assert ("second fit" in note, "One fit" in note) == (refit == "true", refit == "false")


def test_rows_come_out_with_an_interval_and_a_file_through_both_champions(run):
    promote(TASKS, lambda text: None)
    FRAME.head(9).to_csv("rows.csv", index=False)
    score_csv("rows.csv", "scored.csv")
    scored, expected = pd.read_csv("scored.csv"), table(run.info.run_id, "test").set_index("row")
    added = ["label", "probability_old", "rings", "age_years", "rings_low", "rings_high"]
    assert list(scored.columns) == [*FRAME.columns, *added]
    for row in scored.index.intersection(expected.index):
        for ours, theirs in (("probability_old", "probability_old"), ("rings", "predicted_rings")):
            assert scored.loc[row, ours] == pytest.approx(expected.loc[row, theirs], abs=1e-6)
        assert (scored.loc[row, ["rings_low", "rings_high"]] == expected.loc[row, ["rings_low", "rings_high"]]).all()
    info = mlflow.models.get_model_info(models(run.info.run_id)["regression"])
    assert info.signature.outputs.input_names() == added[2:]


def test_promotion_sees_both_models_through_the_one_run(run):
    run_stage("classify", load_settings("classify", {"epochs": 1, "learning_rate": 1e-4}))
    decisions = promote(TASKS, lambda text: None)
    assert [decision.challenger.name for decision in decisions] == ["rings", "rings"]
    for task, name in REGISTERED_MODELS.items():
        version = MlflowClient().get_model_version_by_alias(name, "champion")
        assert version.source == models(run.info.run_id)[task]
        assert "calibration error" in version.description and "80 % of the animals" in version.description
        assert version.tags["signature"].endswith("rings_high double") == (task == "regression")


FRESH = """
import json, sys
import mlflow, mlflow.pytorch, pandas as pd
uri, source = sys.argv[1:]
rows = pd.read_json(source, orient="split")
answer = mlflow.pyfunc.load_model(uri).predict(rows)
import abalone
from abalone.features import encode
assert "artifacts" in abalone.__file__
output = mlflow.pytorch.load_model(uri)(encode(rows)).detach().double()
print(json.dumps({"pytorch": output.tolist(), "pyfunc": {name: answer[name].tolist() for name in answer}}))
"""


@pytest.mark.slow
def test_both_models_load_in_a_fresh_process_elsewhere_and_both_flavors_agree(run, tmp_path):
    source, elsewhere = tmp_path / "rows.json", tmp_path / "elsewhere"
    FRAME.head(200).to_json(source, orient="split")
    elsewhere.mkdir()
    env = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    for task, uri in models(run.info.run_id).items():
        command = [sys.executable, "-I", "-c", FRESH, uri, str(source)]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=elsewhere, timeout=120)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        output, answers = torch.tensor(told["pytorch"]), told["pyfunc"]
        if task == "classification":
            assert answers["probability_old"] == pytest.approx(output.softmax(1)[:, 1].tolist(), abs=1e-6)
        else:
            assert answers["rings"] == pytest.approx(output[:, 0].tolist(), abs=1e-6)
            low, rings, high = (np.array(answers[name]) for name in ("rings_low", "rings", "rings_high"))
            assert (low <= rings).mean() > 0.95 and (rings <= high).mean() > 0.95


def test_a_column_that_nothing_depends_on_has_no_importance():
    class OfShells(torch.nn.Module):
        def forward(self, x):
            return 10 * x[:, [FEATURES.index("Shell weight")]]

    rises = permutation_importance(OfShells(), X, lambda predicted: float(((predicted - RINGS) ** 2).mean()))
    assert list(rises) == list(RAW_COLUMNS) and all(len(rise) == 10 for rise in rises.values())
    assert {name for name, rise in rises.items() if np.abs(rise).max() > 1e-9} == {"Shell weight"}


def test_partial_dependence_of_a_known_model():
    class Planted(torch.nn.Module):
        def forward(self, x):
            return 5 + 2 * x[:, [FEATURES.index("Length")]]

    curves = partial_dependence(Planted(), X)
    assert list(curves) == list(MEASUREMENTS)
    values, years = curves["Length"]
    assert years == pytest.approx(5 + 2 * values + 1.5, abs=1e-5)
    assert np.ptp(curves["Height"][1]) < 1e-6


def test_main_runs_rings_after_the_stages_and_shows_it_with_them(store):
    told = []
    [classify, rings] = run_main(
        {"classify": load_settings("classify", {"epochs": 1})}, told.append, rings=load_settings("rings", SHORT)
    )
    assert not rings.error and "rmse/test" in rings.metrics and "accuracy/test" in rings.metrics
    row = next(line for line in told[-1].splitlines() if line.startswith("| rings"))
    assert all(f"{rings.metrics[f'{name}/test']:.4f}" in row for name in ("accuracy", "rmse", "roc_auc"))
    champions = [MlflowClient().get_model_version_by_alias(name, "champion") for name in REGISTERED_MODELS.values()]
    assert {version.run_id for version in champions} == {rings.run_id} != {classify.run_id}


@pytest.mark.slow
def test_the_mean_of_ten_seeds_on_test():
    found = []
    for seed in range(10):
        rows = split(read(), seed)
        known = np.concatenate([rows.train, rows.val])
        said = answers(fit_rings(load_settings("rings", {"seed": seed}), X, RINGS, known)[0], X[rows.test])
        found.append(
            {k: v for task in TASKS for k, v in scores(task, RINGS[rows.test], said[PREDICTION_COLUMNS[task]]).items()}
        )
    means = {name: np.mean([each[name] for each in found]) for name in found[0]}
    print({name: f"{value:.4f}" for name, value in means.items()})
    assert means["log_loss"] <= 0.418 and means["roc_auc"] >= 0.8875
    assert means["rmse"] <= 2.055 and means["mae"] <= 1.445
