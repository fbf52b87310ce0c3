"""How the tensors of a population are padded; the section *Padding* of ``population`` says why no result changes."""

from __future__ import annotations

from abalone.settings import StageSettings

BIAS_ROWS = 4  # of a weight matrix: the last one is the bias, the others are padding
OUTPUT_COLUMNS = 4  # of the last weight matrix: one, or one per class; the others are padding
EVALUATED_PER_MEMBER = 96  # rows evaluated at once, a multiple of 16; their activations stay in the processor's cache


def round_up(number: int, multiple: int) -> int:
    """The least multiple of ``multiple`` that is not below ``number``."""
    return -(-number // multiple) * multiple


def padded_widths(settings: StageSettings) -> list[int]:
    """Widths of the hidden layers, each rounded up to a multiple of 16."""
    return [round_up(width, 16) for width in settings.hidden_sizes]
