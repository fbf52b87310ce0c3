"""Post huge bodies to MLflow's model server, and print its answers: ``python -m benchmarks.soak.large_bodies``.

MLflow reads the whole body before the project sees any of it, so this measures what ``SECURITY.md`` says of MLflow.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.models import Model

from abalone.data.reading import SHIPPED_FILE, read
from abalone.model.networks import build
from abalone.settings import load_settings
from abalone.tracking.flavor import save_model
from abalone.tracking.markdown import markdown_table
from benchmarks.model_server import model_server

MEGABYTE = 1_000_000
LARGE = 100 * MEGABYTE
CSV = "text/csv"
JSON = "application/json"
HEADER = ("body", "MB", "status", "answer, MB", "seconds", "memory of the server, MB")


def bodies() -> Iterator[tuple[str, str, bytes]]:
    """Name, content type and content of each body."""
    names = [*read().frame, *[f"c{number}" for number in range(10_000)]]
    lines = SHIPPED_FILE.read_text()
    first = lines.splitlines()[0]
    row = [*first.split(","), *[1] * 10_000]
    head = ",".join(read().frame)
    yield "one row", CSV, f"{head}\n{first}\n".encode()
    yield "10,000 columns more", CSV, f"{','.join(names)}\n{','.join(map(str, row))}\n".encode()
    yield "10,000 columns more", JSON, json.dumps({"dataframe_split": {"columns": names, "data": [row]}}).encode()
    yield "10,000 other columns", JSON, json.dumps({"dataframe_records": [dict.fromkeys(names[9:], 1)]}).encode()
    yield "brackets, 100,000 deep", JSON, b"[" * 100_000
    yield "valid rows", CSV, f"{head}\n{lines * (LARGE // len(lines))}".encode()
    yield "one field", CSV, f"{head}\nM,".encode() + b"1" * LARGE
    yield "one column's name", CSV, b"x" * LARGE
    yield "one column's name", JSON, b'{"dataframe_split": {"columns": ["' + b"x" * LARGE + b'"], "data": []}}'
    yield "one row", CSV, f"{head}\n{first}\n".encode()


def post(address: str, kind: str, body: bytes) -> tuple[int, int]:
    """Status and size of the answer to a body."""
    request = urllib.request.Request(address, body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            return answer.status, len(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, len(error.read())


def peak_memory(address: str) -> int:
    """Most memory that a process of the server has had, in bytes."""
    port = address.split(":")[2].partition("/")[0]
    most = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            status = (process / "status").read_text()
        except OSError:  # it has ended
            continue
        if port.encode() in arguments and "VmHWM:" in status:
            most = max(most, int(status.split("VmHWM:")[1].split()[0]) * 1024)
    return most


def main() -> None:
    """Print a table of the answers."""
    config = load_settings("encode", {}).model_config()
    rows = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_model(str(folder / "model"), Model(), build(config).eval(), config, read().frame)
        env = {"OMP_NUM_THREADS": "1"}
        with model_server(str(folder / "model"), folder / "server.log", env, folder) as address:
            for what, kind, body in bodies():
                begin = time.perf_counter()
                status, size = post(address, kind, body)
                seconds = time.perf_counter() - begin
                figures = (len(body) / MEGABYTE, size / MEGABYTE, peak_memory(address) / MEGABYTE)
                shown = [f"{what}, {kind}", f"{figures[0]:.1f}", str(status), f"{figures[1]:.1f}", f"{seconds:.1f}"]
                rows.append([*shown, f"{figures[2]:.0f}"])
    print(markdown_table(HEADER, rows))


if __name__ == "__main__":
    main()
