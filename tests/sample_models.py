"""Small untrained models and raw rows for tests of models, their flavors and servers."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from abalone.data.reading import read
from abalone.model.columns import FEATURES, MEASUREMENTS, MLP, RING_ENSEMBLE
from abalone.model.features import encode
from abalone.model.networks import build, init_weights
from abalone.tracking.flavor import log_model
from abalone.tracking.runs import tracked_run

GOOD_ROW = {"Sex": "M"} | dict(zip(MEASUREMENTS, (0.455, 0.365, 0.095, 0.514, 0.2245, 0.101, 0.15)))


def rows(*changes: dict[str, Any]) -> pd.DataFrame:
    """One good row for each mapping, with its fields replaced by those of the mapping."""
    return pd.DataFrame([{**GOOD_ROW, **change} for change in changes])


def mlp_config(task: str) -> dict[str, Any]:
    """Configuration of a small network with all ten features."""
    return {
        "architecture": MLP,
        "task": task,
        "features": list(FEATURES),
        "hidden_sizes": [16, 16],
        "dropout": 0.0,
        "clip": 4.0,
    }


def ensemble_config(task: str) -> dict[str, Any]:
    """Configuration of a small ring ensemble."""
    return {"architecture": RING_ENSEMBLE, "task": task, "members": 2, "hidden_sizes": [8]}


def untrained_model(config: dict[str, Any]) -> torch.nn.Module:
    """A model with the standardisation of the shipped file, fixed random weights, and in eval mode."""
    model = build(config)
    generator = torch.Generator().manual_seed(0)
    x = encode(read().frame)
    if config["architecture"] == RING_ENSEMBLE:
        model.distribution.prepare.fit(x)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    else:
        model.prepare.fit(x)
        init_weights(model, generator)
    return model.eval()


def log_untrained_model(config: dict[str, Any]) -> str:
    """Log such a model in a run of its own; return its URI."""
    with tracked_run("model"):
        return f"models:/{log_model(untrained_model(config), config, read().frame, {}, 'model')}"
