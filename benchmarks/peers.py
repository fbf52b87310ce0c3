"""What else one would fit to these columns: tuned on the validation rows, fitted again on train + validation."""

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

ROUNDS, PATIENCE, RATE = 2000, 50, 0.03
Rows = tuple[np.ndarray, np.ndarray]  # inputs [n, d], rings [n]


def fit_peer(name: str, task: str, train: Rows, val: Rows, both: Rows, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Choose the settings with the best validation score, and fit them on ``both``.

    Parameters
    ----------
    name : str
        Key of ``PEERS``.
    task : str
        classification or regression.
    train, val, both : (inputs [n, d], rings [n])
        Prepared by the rows of ``train``; those of ``both`` by themselves.
    seed : int
        Where the peer is random.

    Returns
    -------
    callable
        Inputs [n, d] to P(Old) or rings [n], float64.
    """

    def score(candidate: tuple[Any, Any]) -> float:
        return scores(task, val[1], _predict(task, candidate[0], val[0]))[SELECTION[task]]

    _, again = min(PEERS[name](task, train, val, seed), key=score)
    model = again.fit(both[0], _target(task, both[1]))
    return lambda inputs: _predict(task, model, inputs)


def _target(task: str, rings: np.ndarray) -> np.ndarray:
    return is_old(rings) if task == "classification" else rings.astype(float)


def _predict(task: str, model: Any, inputs: np.ndarray) -> np.ndarray:
    return np.asarray(
        model.predict_proba(inputs)[:, 1] if task == "classification" else model.predict(inputs), dtype=float
    )


def _catboost(task: str, train: Rows, val: Rows, seed: int) -> Iterator[tuple[Any, Any]]:
    kind = CatBoostClassifier if task == "classification" else CatBoostRegressor
    for depth, l2 in ((4, 3), (6, 3), (6, 10)):
        fixed = {"depth": depth, "l2_leaf_reg": l2, "learning_rate": RATE, "random_seed": seed, "thread_count": 1}
        fixed |= {"verbose": False, "allow_writing_files": False}
        model = kind(iterations=ROUNDS, early_stopping_rounds=PATIENCE, **fixed)
        model.fit(train[0], _target(task, train[1]), eval_set=(val[0], _target(task, val[1])))
        yield model, kind(iterations=model.tree_count_, **fixed)


def _lightgbm(task: str, train: Rows, val: Rows, seed: int) -> Iterator[tuple[Any, Any]]:
    kind = LGBMClassifier if task == "classification" else LGBMRegressor
    for leaves, least in ((7, 20), (15, 20), (15, 40)):
        fixed = {"num_leaves": leaves, "min_child_samples": least, "learning_rate": RATE, "random_state": seed}
        fixed |= {"n_jobs": 1, "verbose": -1, "subsample": 0.8, "subsample_freq": 1, "colsample_bytree": 0.8}
        model = kind(n_estimators=ROUNDS, **fixed)
        stop = early_stopping(PATIENCE, verbose=False)
        model.fit(train[0], _target(task, train[1]), eval_X=val[0], eval_y=_target(task, val[1]), callbacks=[stop])
        yield model, kind(n_estimators=model.best_iteration_ or ROUNDS, **fixed)


def _svm(task: str, train: Rows, val: Rows, seed: int) -> Iterator[tuple[Any, Any]]:
    for c in (0.3, 1.0, 3.0, 10.0):
        if task == "classification":
            make = lambda c=c: CalibratedClassifierCV(SVC(C=c, gamma=0.02), ensemble=False)  # noqa: E731
        else:
            make = lambda c=c: SVR(C=c, gamma=0.02, epsilon=0.3)  # noqa: E731
        yield make().fit(train[0], _target(task, train[1])), make()


def _linear(task: str, train: Rows, val: Rows, seed: int) -> Iterator[tuple[Any, Any]]:
    for strength in (0.01, 0.1, 1.0, 10.0, 100.0):
        if task == "classification":
            make = lambda s=strength: LogisticRegression(C=1 / s, max_iter=1000)  # noqa: E731
        else:
            make = lambda s=strength: Ridge(alpha=s)  # noqa: E731
        yield make().fit(train[0], _target(task, train[1])), make()


PEERS = {"CatBoost": _catboost, "LightGBM": _lightgbm, "SVM": _svm, "logistic / ridge": _linear}
