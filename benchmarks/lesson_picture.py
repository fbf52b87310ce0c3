"""Write ``docs/lesson.png``, the figure ``lesson.png`` of a real run of ``main`` on seed 0.

``python -m benchmarks.lesson_picture`` takes about half a minute.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "lesson.png"


def write_lesson_picture(path: Path = PICTURE) -> None:
    """Run every stage in a store of its own, and keep the figure.

    Parameters
    ----------
    path : Path
        File to write.
    """
    command = [sys.executable, "-m", "abalone", "main", "--trials", "0", "--seeds", "0"]
    root = Path(__file__).resolve().parent.parent
    with TemporaryDirectory() as folder:
        settings = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "PYTHONPATH": str(root)}
        subprocess.run(command, env={**os.environ, **settings}, cwd=folder, check=True)
        [figure] = Path(folder).rglob("lesson.png")
        shutil.copyfile(figure, path)


if __name__ == "__main__":
    write_lesson_picture()
    print(f"written: {PICTURE}")
