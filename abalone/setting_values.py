"""Values of settings: from their text or TOML to the type and bounds of their field, and back to text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field
from typing import Any

from abalone.model.columns import FEATURES

AUTO = "auto"  # of a number that the program chooses


def as_text(value: Any) -> str:
    """A setting as one shell word, so ``Whole weight`` becomes ``Whole_weight``.

    ``mlflow run`` quotes a parameter that is more than one word, and stores it together with the quotes.
    """
    if isinstance(value, list | tuple):
        return ",".join(as_text(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    if value in FEATURES:
        return value.replace(" ", "_")
    return str(value)


def parse(spec: Field, value: Any) -> Any:
    """Convert a value to the type of a field, and check it against the field's bounds.

    Parameters
    ----------
    spec : Field
        Field of a settings class, made with ``settings._key``.
    value : Any
        A typed value or its text.

    Raises
    ------
    ValueError
        If the field does not accept the value; the message says what was expected.
    """
    try:
        if spec.type.startswith("tuple"):  # annotations are postponed, so a field's type is its text
            return _parse_items(spec, value)
        if spec.metadata["auto"] and value == AUTO:
            return AUTO
        parsed = _convert(spec.type.removesuffix(" | str"), value)
        _check(spec.metadata, parsed)
        return parsed
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{as_text(value)!r} is not valid; expected {_expected(spec)}") from None


def _parse_items(spec: Field, value: Any) -> tuple:
    """The items of a sequence, or of text separated by commas; a column name must not repeat."""
    items = value.strip("[]() ").split(",") if isinstance(value, str) else value
    kind = "int" if "int" in spec.type else "column"
    parsed = tuple(_convert(kind, item) for item in items)
    if not parsed:
        raise ValueError
    if kind == "column" and len(set(parsed)) < len(parsed):
        raise ValueError
    for item in parsed:
        _check(spec.metadata, item)
    return parsed


def _expected(spec: Field) -> str:
    if spec.metadata["choices"] == FEATURES:
        return f"{spec.metadata['expected']}, out of {as_text(FEATURES)}"
    return spec.metadata["expected"]


def _convert(kind: str, value: Any) -> Any:
    if kind == "bool":
        return _convert_bool(value)
    if kind in ("int", "float"):
        return _convert_number(kind, value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    if kind == "column":
        return value.strip().replace("_", " ")
    return value


def _convert_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "1": True, "false": False, "0": False}
    text = str(value).lower()
    if text not in known:
        raise ValueError
    return known[text]


def _convert_number(kind: str, value: Any) -> int | float:
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    if kind == "float":
        return number
    if number != int(number):
        raise ValueError
    return int(number)


def _check(limits: Mapping[str, Any], value: Any) -> None:
    """Raise ``ValueError`` unless the value is within the limits of its field."""
    if limits["choices"]:
        accepted = value in limits["choices"]
    elif isinstance(value, str | bool):
        accepted = True
    else:
        low = limits["minimum"]
        high = limits["maximum"]
        is_above = value > low if limits["above"] else value >= low
        is_below = value < high if limits["below"] else value <= high
        accepted = math.isfinite(value) and is_above and is_below
    if not accepted:
        raise ValueError
