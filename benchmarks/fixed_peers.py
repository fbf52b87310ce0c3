"""Models that ``rings`` is compared with at one fixed setting, and one that predicts a distribution too.

Needs the extra ``quality`` (CatBoost and NGBoost); RealMLP and TabM need the extra ``peers``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from catboost import CatBoostClassifier, CatBoostRegressor
from scipy.stats import lognorm

from abalone.model.distribution import THRESHOLDS
from benchmarks.peers import PATIENCE, Rows, predict_peer, target

# Chosen on validation folds of seeds 100 and 101, whose splits are not in the table.
CATBOOST = {"depth": 6, "l2_leaf_reg": 10, "learning_rate": 0.03, "iterations": 300}
CATBOOST_FITS = 8
PYTABKIT_FITS = {"RealMLP": 5, "TabM": 1}
NGBOOST_RATE = 0.03

Predict = Callable[[np.ndarray], np.ndarray]  # inputs [n, d] to P(Old) or rings [n]


def fit_fixed_catboost(task: str, both: Rows, seed: int, fits: int = CATBOOST_FITS) -> Predict:
    """Fit CatBoost several times with other seeds; their mean is predicted.

    Parameters
    ----------
    task : str
        classification or regression.
    both : (inputs [n, d], rings [n])
        Training and validation rows together.
    seed : int
        The fits take the seeds from ``fits * seed`` on.
    fits : int
    """
    kind = CatBoostClassifier if task == "classification" else CatBoostRegressor
    models = []
    for k in range(fits):
        model = kind(**CATBOOST, random_seed=fits * seed + k, thread_count=1, verbose=False, allow_writing_files=False)
        models.append(model.fit(both[0], target(task, both[1])))
    return lambda inputs: np.mean([predict_peer(task, model, inputs) for model in models], axis=0)


def fit_ngboost(train: Rows, val: Rows, both: Rows, seed: int, boosting_rounds: int) -> Predict:
    """Fit NGBoost's log-normal distribution of rings, with the number of rounds that is best on validation.

    Source: Duan et al. (2020), NGBoost: Natural Gradient Boosting for Probabilistic Prediction.

    Parameters
    ----------
    train, val, both : (inputs [n, d], rings [n])
        As ``fit_peer`` takes them.
    seed : int
    boosting_rounds : int
        Upper limit; early stopping usually ends sooner.

    Returns
    -------
    callable
        Maps inputs [n, d] to P(rings >= t) [n, 28]; r rings are r - 1/2 to r + 1/2.
    """
    from ngboost import NGBRegressor
    from ngboost.distns import LogNormal
    from ngboost.learners import default_tree_learner
    from sklearn.base import clone

    tree = clone(default_tree_learner).set_params(random_state=seed)  # otherwise it breaks ties at random

    def new(rounds: int) -> Any:
        options = {"n_estimators": rounds, "learning_rate": NGBOOST_RATE, "random_state": seed, "verbose": False}
        return NGBRegressor(Dist=LogNormal, Base=tree, **options)

    tuned = new(boosting_rounds)
    tuned.fit(train[0], train[1], X_val=val[0], Y_val=val[1], early_stopping_rounds=PATIENCE)
    model = new(1 + tuned.best_val_loss_itr).fit(both[0], both[1])

    def at_least(inputs: np.ndarray) -> np.ndarray:
        found = model.pred_dist(inputs).params
        edges = np.array(THRESHOLDS) - 0.5
        return lognorm.sf(edges, found["s"][:, None], scale=found["scale"][:, None])

    return at_least


def fit_pytabkit(name: str, task: str, both: Rows, seed: int) -> Predict:
    """Fit RealMLP or TabM with the settings that pytabkit gives them.

    RealMLP is the mean of five fits on four fifths of all rows, each stopped by the last fifth; TabM, the mean of 32
    networks in itself, is one such fit. RealMLP classifies without label smoothing, which is for accuracy and spoils
    probabilities.

    Source: Holzmüller et al. (2024), Better by Default; Gorishniy et al. (2024), TabM.

    Parameters
    ----------
    name : str
        ``RealMLP`` or ``TabM``.
    task : str
        classification or regression.
    both : (inputs [n, d], rings [n])
        Training and validation rows together.
    seed : int
    """
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor, TabM_D_Classifier, TabM_D_Regressor

    kinds = {
        ("RealMLP", "classification"): RealMLP_TD_Classifier,
        ("RealMLP", "regression"): RealMLP_TD_Regressor,
        ("TabM", "classification"): TabM_D_Classifier,
        ("TabM", "regression"): TabM_D_Regressor,
    }
    chosen_by = {"classification": "cross_entropy", "regression": "rmse"}
    settings = {"device": "cpu", "random_state": seed, "n_threads": 1, "val_metric_name": chosen_by[task]}
    settings["n_cv"] = PYTABKIT_FITS[name]
    if (name, task) == ("RealMLP", "classification"):
        settings["use_ls"] = False
    model = kinds[name, task](**settings).fit(both[0], target(task, both[1]))
    return lambda inputs: predict_peer(task, model, inputs)
