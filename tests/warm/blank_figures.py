"""Figures as one white pixel, for tests that do not look at them: to draw one takes longer than a short training."""

from __future__ import annotations

import base64
from typing import Any

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==")


def print_pixel(canvas: Any, file: Any, **options: Any) -> None:
    """Take the place of ``FigureCanvasAgg.print_png``."""
    if "draw" in vars(canvas.figure):  # matplotlib only asks for the renderer, to crop a figure of a notebook
        canvas.figure.draw(canvas.get_renderer())
    file.write(PIXEL)
