"""Speed of the VRAM room against its targets: import, estimate, fit, the calculator's picture, simulate.

The page's redraw is timed inside Chromium, from a changed field to the new picture in the document.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from toolkit.calculator import page
from toolkit.calculator.view import view
from toolkit.methods import Full, LoRA, Method, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan
from toolkit.vram import estimate, simulate
from toolkit.vram.fit import fit

CASES: list[tuple[str, Method, str]] = [
    ("SmolLM2-135M", LoRA(), "T4"),
    ("Qwen2.5-7B", LoRA(16, targets="all-linear"), "T4"),
    ("Qwen2.5-7B", Full(), "RTX 4090"),
    ("Llama-3.1-70B", QLoRA(64, targets="all-linear"), "RTX A6000"),
    ("Mixtral-8x7B-v0.1", QLoRA(16), "A100 80 GB"),
]
IMPORT = """
import sys, time
start = time.perf_counter()
import toolkit.vram
print(time.perf_counter() - start)
sys.exit("torch" in sys.modules)
"""


def seconds(run: Callable[[], object], repeats: int = 7) -> float:
    """The median of several runs after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def import_seconds(repeats: int = 7) -> float:
    """The median in fresh processes. Raises CalledProcessError where the import brings torch along."""
    command = [sys.executable, "-c", IMPORT]
    printed = [subprocess.run(command, check=True, capture_output=True).stdout for _ in range(repeats)]
    return statistics.median(map(float, printed))


REDRAW = """() => [2, 3, 5, 6, 7, 8, 4].map(batch => {
  const input = document.getElementById('field-batch'), start = performance.now();
  input.value = batch;
  input.onchange();
  return performance.now() - start;
})"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def redraw_seconds() -> float:
    """The median time that the static page takes to redraw, in Chromium, where it runs on Pyodide."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page.build(Path(folder))
        handler = functools.partial(Quiet, directory=folder)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            shown = browser.new_page()
            shown.goto(f"http://127.0.0.1:{server.server_port}/")
            shown.wait_for_selector(".vram-chart", timeout=120_000)
            shown.evaluate(REDRAW)
            times = shown.evaluate(REDRAW)
            browser.close()
            server.shutdown()
    return statistics.median(times) / 1000


def main() -> None:
    """Print a table, and leave with status 1 when something is over its target."""
    over = _show("import toolkit.vram, no torch", import_seconds(), 0.150)
    for name, method, card in CASES:
        plan = Plan(Architecture.from_config(name), method, batch=8, seq_len=1024, gpu=card)
        label = f"{name}, {type(method).__name__}, {card}"
        over |= _show(f"estimate {label}", seconds(lambda p=plan: estimate(p)), 200e-6)  # type: ignore[misc]
        over |= _show(f"fit {label}", seconds(lambda p=plan: fit(p, p.gpu)), 0.100)  # type: ignore[misc]
        over |= _show(f"view {label}", seconds(lambda p=plan: view(p)), 0.100)  # type: ignore[misc]
    over |= _show("redraw of the page in Chromium", redraw_seconds(), 0.100)
    seven = Plan(Architecture.from_config("Qwen2.5-7B"), LoRA(16))
    over |= _show("simulate Qwen2.5-7B, LoRA", seconds(lambda: simulate(seven), 3), 20)
    sys.exit(over)


def _show(label: str, took: float, target: float) -> bool:
    print(
        f"{label:52} {took * 1e3:11.3f} ms   target {target * 1e3:9.1f} ms {took / target:6.2f}x", flush=True
    )
    return took > target


if __name__ == "__main__":
    main()
