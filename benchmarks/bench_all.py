"""Every benchmark of speed, in one table.

``python -m benchmarks.bench_all``, or ``make bench``, runs them one after the other, each in a process of its own. It
prints one table of their figures and writes it to ``docs/speed.md``. With names of modules, such as ``bench_training``,
it runs these and writes nothing.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.speed import Figure, speed_table

MODULES = (
    "bench_training",
    "bench_run",
    "bench_population",
    "bench_tuning",
    "bench_serving",
    "bench_requests",
    "bench_storage",
    "bench_main",
)
ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "speed.md"
COMMAND = "make bench"
PACKAGES = ("torch", "mlflow", "optuna", "pandas", "scikit-learn")


def measure(modules: Sequence[str]) -> list[Figure]:
    """Run benchmarks and collect their figures.

    Parameters
    ----------
    modules : sequence of str
        Modules of this package whose last line of output is that of ``speed.show``.
    """
    figures = []
    for name in modules:
        print(f"{name} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
        for values in json.loads(printed.splitlines()[-1]):
            figures.append(Figure(**values))
    return figures


def speed_page(figures: Sequence[Figure], date: str, load: float) -> str:
    """The text of ``docs/speed.md``.

    Parameters
    ----------
    figures : sequence of Figure
    date : str
        Day of the measurement.
    load : float
        Number of other processes that wanted to run when it began.
    """
    return f"""# Speed

Written by `{COMMAND}` on {date}; do not edit.

{speed_table(figures)}

Times are CPU times on one thread, unless they say *wall*; of what is measured repeatedly, the best. What is compared
was measured in turn in the same run, so the ratios carry over to other machines better than the times. *Of peak* is the
rate of the matrix products, over the whole time, as a share of the rate of a product of two large matrices.

Machine: {machine()}. When the measurement began, {load:.1f} other processes wanted to run.

To repeat it, enter `{COMMAND}` on a machine that does nothing else, or one part alone:
`python -m benchmarks.bench_training`.
"""


def machine() -> str:
    """Processor, cores that this process may use, system, and versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores, {platform.system()}; Python {platform.python_version()}, {versions}"


def _processor() -> str:
    """Model of the processor, from Linux if possible; ``platform`` knows its family only."""
    path = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", path.read_text(), re.M) if path.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def main(arguments: Sequence[str]) -> None:
    """Measure, print the table, and write the page if all was measured."""
    load = os.getloadavg()[0]
    figures = measure(arguments or MODULES)
    print(speed_table(figures))
    if not arguments:
        PAGE.write_text(speed_page(figures, time.strftime("%Y-%m-%d"), load), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
