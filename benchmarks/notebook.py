"""``make notebook``: write ``docs/guide.ipynb`` from ``docs/guide_notebook.md``, and execute it.

In the source, each block of Python is a cell of code, and the text between two blocks is a cell of text. The notebook
is executed in a temporary folder with a tracking store of its own, so that no run of the developer's is touched and no
path of this machine gets into the outputs.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "docs" / "guide_notebook.md"
NOTEBOOK = ROOT / "docs" / "guide.ipynb"
CODE_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
SECONDS = 600  # that one cell may take
MAX_BYTES = 1_000_000


def build_notebook(source: str) -> NotebookNode:
    """Make a notebook without outputs.

    Parameters
    ----------
    source : str
        Markdown with blocks of Python.
    """
    cells = []
    for number, part in enumerate(CODE_BLOCK.split(source)):  # text, code, text, code, ..., text
        new_cell = new_code_cell if number % 2 else new_markdown_cell
        if part.strip():
            cells.append(new_cell(part.strip(), id=f"cell-{number}"))
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def execute(notebook: NotebookNode, folder: Path, project: Path = ROOT) -> None:
    """Execute all cells in a folder, with a tracking store in it, and keep their outputs in the notebook.

    Parameters
    ----------
    notebook : NotebookNode
    folder : Path
        Working folder of the kernel.
    project : Path
        Folder that ``abalone`` is imported from.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell raises.
    """
    settings = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    settings |= {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PYTHONPATH": str(project),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=SECONDS, record_timing=False, resources=where)
    client.execute(env=settings)


def main() -> None:
    """Write the executed notebook."""
    notebook = build_notebook(SOURCE.read_text(encoding="utf-8"))
    with TemporaryDirectory() as folder:
        execute(notebook, Path(folder))
    text = nbformat.writes(notebook) + "\n"
    if len(text.encode()) >= MAX_BYTES:
        sys.exit(f"{NOTEBOOK} would have more than {MAX_BYTES} bytes")
    NOTEBOOK.write_text(text, encoding="utf-8")
    print(f"{NOTEBOOK.relative_to(ROOT)}: {len(text.encode())} bytes")


if __name__ == "__main__":
    main()
