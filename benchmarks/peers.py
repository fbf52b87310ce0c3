"""The models that ``rings`` is compared with: tuned on the validation rows, refitted on training and validation rows.

Needs the extra ``quality`` (CatBoost and LightGBM).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from catboost import CatBoostClassifier, CatBoostRegressor
from lightgbm import LGBMClassifier, LGBMRegressor, early_stopping
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import SVC, SVR

from abalone.data.labels import is_old
from abalone.evaluation.scores import scores
from abalone.settings import SELECTION

PATIENCE = 50  # boosting rounds without improvement before early stopping
BOOSTING_RATE = 0.03
Rows = tuple[np.ndarray, np.ndarray]  # inputs [n, d], rings [n]
Candidates = Iterator[tuple[Any, Any]]  # a fitted model, and the same settings to be fitted again


def fit_peer(
    name: str, task: str, train: Rows, val: Rows, both: Rows, seed: int, boosting_rounds: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Choose the settings with the best validation score and fit them on ``both``.

    Parameters
    ----------
    name : str
        Key of ``PEERS``.
    task : str
        classification or regression.
    train, val : (inputs [n, d], rings [n])
        Training and validation rows, standardised by the training rows.
    both : (inputs [n, d], rings [n])
        Training and validation rows together, standardised by themselves.
    seed : int
        Seed of the peers that use random numbers.
    boosting_rounds : int
        Upper limit of the boosting rounds; early stopping usually ends sooner.

    Returns
    -------
    callable
        Maps inputs [n, d] to P(Old) or rings [n], float64.
    """
    best_score = np.inf
    for fitted, unfitted in PEERS[name](task, train, val, seed, boosting_rounds):
        score = scores(task, val[1], predict_peer(task, fitted, val[0]))[SELECTION[task]]
        if score < best_score:
            best_score = score
            best = unfitted
    model = best.fit(both[0], target(task, both[1]))
    return lambda inputs: predict_peer(task, model, inputs)


def target(task: str, rings: np.ndarray) -> np.ndarray:
    if task == "classification":
        return is_old(rings)
    return rings.astype(float)


def predict_peer(task: str, model: Any, inputs: np.ndarray) -> np.ndarray:
    if task == "classification":
        return np.asarray(model.predict_proba(inputs)[:, 1], dtype=float)
    return np.asarray(model.predict(inputs), dtype=float)


def _catboost(task: str, train: Rows, val: Rows, seed: int, boosting_rounds: int) -> Candidates:
    kind = CatBoostClassifier if task == "classification" else CatBoostRegressor
    val_set = (val[0], target(task, val[1]))
    for depth, l2 in ((4, 3), (6, 3), (6, 10)):
        fixed = {
            "depth": depth,
            "l2_leaf_reg": l2,
            "learning_rate": BOOSTING_RATE,
            "random_seed": seed,
            "thread_count": 1,
            "verbose": False,
            "allow_writing_files": False,
        }
        model = kind(iterations=boosting_rounds, early_stopping_rounds=PATIENCE, **fixed)
        model.fit(train[0], target(task, train[1]), eval_set=val_set)
        yield model, kind(iterations=model.tree_count_, **fixed)


def _lightgbm(task: str, train: Rows, val: Rows, seed: int, boosting_rounds: int) -> Candidates:
    kind = LGBMClassifier if task == "classification" else LGBMRegressor
    for leaves, least_rows in ((7, 20), (15, 20), (15, 40)):
        fixed = {
            "num_leaves": leaves,
            "min_child_samples": least_rows,
            "learning_rate": BOOSTING_RATE,
            "random_state": seed,
            "n_jobs": 1,
            "verbose": -1,
            "subsample": 0.8,
            "subsample_freq": 1,
            "colsample_bytree": 0.8,
        }
        model = kind(n_estimators=boosting_rounds, **fixed)
        model.fit(
            train[0],
            target(task, train[1]),
            eval_X=val[0],
            eval_y=target(task, val[1]),
            callbacks=[early_stopping(PATIENCE, verbose=False)],
        )
        yield model, kind(n_estimators=model.best_iteration_ or boosting_rounds, **fixed)


def _svm(task: str, train: Rows, val: Rows, seed: int, boosting_rounds: int) -> Candidates:
    for c in (0.3, 1.0, 3.0, 10.0):
        yield _new_svm(task, c).fit(train[0], target(task, train[1])), _new_svm(task, c)


def _new_svm(task: str, c: float) -> CalibratedClassifierCV | SVR:
    if task == "classification":
        return CalibratedClassifierCV(SVC(C=c, gamma=0.02), ensemble=False)
    return SVR(C=c, gamma=0.02, epsilon=0.3)


def _linear(task: str, train: Rows, val: Rows, seed: int, boosting_rounds: int) -> Candidates:
    for alpha in (0.01, 0.1, 1.0, 10.0, 100.0):
        yield _new_linear(task, alpha).fit(train[0], target(task, train[1])), _new_linear(task, alpha)


def _new_linear(task: str, alpha: float) -> LogisticRegression | Ridge:
    if task == "classification":
        return LogisticRegression(C=1 / alpha, max_iter=1000)
    return Ridge(alpha=alpha)


PEERS = {"CatBoost": _catboost, "LightGBM": _lightgbm, "SVM": _svm, "logistic / ridge": _linear}
