"""TODO tuning.plan"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from abalone.settings import BadValue, StageSettings, toml_path


@dataclass(frozen=True)
class Plan:
    """What is studied: the same for everybody who works on a study of this name.

    Parameters
    ----------
    base : str
        Stage whose settings are the first trial, and those of every trial where nothing else is searched.
    settings : Experiment
        These settings.
    space : mapping of name to range
        What is searched, as in ``experiments/tune.toml``.
    """

    base: str
    settings: StageSettings
    space: Mapping[str, Mapping[str, Any]]

    @property
    def task(self) -> str:
        """classification or regression."""
        return self.settings.task

    def distributions(self) -> dict[str, BaseDistribution]:
        """The space in Optuna's terms."""
        return {name: _distribution(allowed) for name, allowed in self.space.items()}

    def start(self) -> dict[str, Any]:
        """The base stage as a point of the space."""
        sizes = self.settings.hidden_sizes
        known = {**vars(self.settings), "depth": len(sizes), "width": sizes[0]}
        below = {name: allowed["float"][0] for name, allowed in self.space.items() if known[name] == 0}
        return {name: below.get(name, known[name]) for name in self.space}

    def at(self, point: Mapping[str, Any]) -> StageSettings:
        """The settings at a point of the space."""
        values = {name: self.value(name, value) for name, value in point.items()}
        sizes = self.settings.hidden_sizes
        depth, width = values.pop("depth", len(sizes)), values.pop("width", sizes[0])
        values["hidden_sizes"] = sizes if (depth, width) == (len(sizes), sizes[0]) else (width,) * depth
        return replace(self.settings, **values)

    def value(self, name: str, value: Any) -> Any:
        """A coordinate of the space as the setting that it stands for."""
        return 0.0 if value < self.space[name].get("zero_below", -math.inf) else value

    def as_attributes(self) -> dict[str, Any]:
        """What must not change within a study."""
        space = {name: str(dict(allowed)) for name, allowed in self.space.items()}
        return {"base": self.base, "settings": self.settings.as_text(), "space": space}


def read_space(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The ranges of ``experiments/tune.toml`` with these names.

    Raises
    ------
    BadValue
        If there is no such range.
    """
    known = tomllib.loads(toml_path("tune").read_text(encoding="utf-8"))
    if unknown := [name for name in names if name not in known]:
        raise BadValue("search", f"{unknown[0]!r} cannot be searched; expected some of {','.join(known)}")
    if not names:
        raise BadValue("search", f"nothing to search; expected some of {','.join(known)}")
    return {name: known[name] for name in known if name in names}


def _distribution(allowed: Mapping[str, Any]) -> BaseDistribution:
    if "choice" in allowed:
        return CategoricalDistribution(allowed["choice"])
    kind, (low, high) = next((key, allowed[key]) for key in ("float", "int") if key in allowed)
    return {"float": FloatDistribution, "int": IntDistribution}[kind](low, high, log=allowed.get("log", False))
