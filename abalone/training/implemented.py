"""What a training engine implements: anything else is refused by name, and never ignored.

A setting that an engine ignored would be recorded as a parameter of the run without having had an effect, and a layer
that it ignored would leave a study with another network than the one that it names.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields

from torch import nn

from abalone.settings import Settings, UserError

DATA_SETTINGS = frozenset({"data", "units", "target"})  # used before an engine gets the rows


class NotImplementedByEngine(UserError):
    """A setting or a layer that an engine does not implement."""


def require_settings(
    engine: str, settings: Settings, model_config: Collection[str], implemented: Collection[str]
) -> None:
    """Refuse settings with a key that an engine does not implement.

    Parameters
    ----------
    engine : str
        Name of the function that trains.
    settings : Settings
    model_config : collection of str
        Keys that ``networks.build`` gets, which refuses those that it does not know.
    implemented : collection of str
        Keys that the engine implements.

    Raises
    ------
    NotImplementedByEngine
        If there is another key.
    """
    known = {*model_config, *implemented, *DATA_SETTINGS}
    unknown = [spec.name for spec in fields(settings) if spec.name not in known]
    if unknown:
        raise NotImplementedByEngine(f"{engine} does not implement the setting {', '.join(unknown)}")


def require_layers(engine: str, network: nn.Sequential, expected: Sequence[type[nn.Module]]) -> None:
    """Refuse a network whose layers are not of the expected types, in their order.

    Parameters
    ----------
    engine : str
        Name of the function that trains.
    network : nn.Sequential
    expected : sequence of type
        Types of the layers that the engine computes.

    Raises
    ------
    NotImplementedByEngine
        If the layers differ.
    """
    found = [type(layer) for layer in network]
    if found == list(expected):
        return
    unknown = {kind.__name__ for kind in found} - {kind.__name__ for kind in expected}
    what = f"the layer {', '.join(sorted(unknown))}" if unknown else f"the order of layers {_names(found)}"
    raise NotImplementedByEngine(
        f"{engine} does not implement {what}; it trains {_names(expected)}. Train this network as a stage, with fit"
    )


def _names(kinds: Sequence[type]) -> str:
    return "-".join(kind.__name__ for kind in kinds)
