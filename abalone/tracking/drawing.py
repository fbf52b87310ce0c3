"""Draw figures as PNG images, side by side. Workers import this module, so it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from abalone.side_by_side import run_all


def draw(figures: Mapping[str, Any]) -> dict[str, bytes]:
    """The PNG image of each Figure, by its file name."""
    images = run_all(_png_image, [(figure,) for figure in figures.values()])
    return dict(zip(figures, images))


def _png_image(figure: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = BytesIO()
    FigureCanvasAgg(figure).print_png(content)  # the same image as savefig's, which lays the figure out twice
    return content.getvalue()
