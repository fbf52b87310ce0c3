"""The plan of a study: the stage that it starts from, and the space of settings that it searches."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from abalone.settings import BadValue, StageSettings, toml_path


@dataclass(frozen=True)
class Plan:
    """What is studied: the same for every process that works on a study.

    Parameters
    ----------
    base : str
        Stage that the study starts from.
    settings : StageSettings
        Settings of that stage: those of the first trial, and of every trial for whatever is not searched.
    space : mapping of name to range
        What is searched, in the form of ``experiments/tune.toml``.
    """

    base: str
    settings: StageSettings
    space: Mapping[str, Mapping[str, Any]]

    @property
    def task(self) -> str:
        """``classification`` or ``regression``."""
        return self.settings.task

    def distributions(self) -> dict[str, BaseDistribution]:
        """The space as Optuna distributions."""
        return {name: _distribution(allowed) for name, allowed in self.space.items()}

    def start(self) -> dict[str, Any]:
        """The base stage as a point of the space.

        A setting that is 0 in the base becomes the low end of its range, which stands for 0 (see ``value``).
        """
        current = vars(self.settings) | {"depth": self._depth, "width": self._width}
        point = {}
        for name, allowed in self.space.items():
            point[name] = current[name]
            if current[name] == 0:
                point[name] = allowed["float"][0]
        return point

    def at(self, point: Mapping[str, Any]) -> StageSettings:
        """The settings at a point of the space.

        Hidden layers stay as in the base, whose widths may differ, unless the point has another depth or width.
        """
        values = {name: self.value(name, value) for name, value in point.items()}
        depth = values.pop("depth", self._depth)
        width = values.pop("width", self._width)
        hidden_sizes = self.settings.hidden_sizes
        if depth != self._depth or width != self._width:
            hidden_sizes = (width,) * depth
        return replace(self.settings, hidden_sizes=hidden_sizes, **values)

    def value(self, name: str, value: Any) -> Any:
        """The setting that a coordinate of the space stands for.

        Below ``zero_below`` that is 0. "No weight decay, or a log-uniform one" is thus a single axis for Optuna's
        sampler, without a conditional parameter.
        """
        threshold = self.space[name].get("zero_below")
        if threshold is not None and value < threshold:
            return 0.0
        return value

    def as_attributes(self) -> dict[str, Any]:
        """What must not change within a study, in the form that is kept with it."""
        space = {name: str(dict(allowed)) for name, allowed in self.space.items()}
        return {"base": self.base, "settings": self.settings.as_text(), "space": space}

    @property
    def _depth(self) -> int:
        return len(self.settings.hidden_sizes)

    @property
    def _width(self) -> int:
        return self.settings.hidden_sizes[0]


def read_space(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read the ranges of these settings from ``experiments/tune.toml``.

    Raises
    ------
    BadValue
        If a name has no range there, or there are no names.
    """
    known = tomllib.loads(toml_path("tune").read_text(encoding="utf-8"))
    for name in names:
        if name not in known:
            raise BadValue("search", f"{name!r} cannot be searched; expected some of {','.join(known)}")
    if not names:
        raise BadValue("search", f"nothing to search; expected some of {','.join(known)}")
    return {name: known[name] for name in known if name in names}


def _distribution(allowed: Mapping[str, Any]) -> BaseDistribution:
    if "choice" in allowed:
        return CategoricalDistribution(allowed["choice"])
    log = allowed.get("log", False)
    if "int" in allowed:
        low, high = allowed["int"]
        return IntDistribution(low, high, log=log)
    low, high = allowed["float"]
    return FloatDistribution(low, high, log=log)
