"""`pie view` started as a command, and its page in headless Chromium by Playwright."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync")
READY_SECONDS = 300.0  # programs may have to be compiled


def chromium() -> str | None:
    """The path of an installed Chromium or Chrome; None: there is none."""
    return next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
                None)


@contextlib.contextmanager
def viewing(words: Sequence[str]) -> Iterator[tuple[str, subprocess.Popen]]:
    """`pie view WORDS` at work: its address, and the process. It is ended at the end of the block."""
    process = subprocess.Popen([sys.executable, "-m", "pie_jax", "view", "--no-browser", *words],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               cwd=pathlib.Path(__file__).parents[2], env=os.environ | {"PYTHONUNBUFFERED": "1"})
    assert process.stdout is not None and process.stderr is not None
    try:
        address = process.stdout.readline().strip()
        if not address.startswith("http://127.0.0.1:"):
            raise RuntimeError(f"pie view did not start: {process.stderr.read()[-500:]}")
        yield address, process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def opened(address: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> Iterator[Any]:
    """A page of the viewer, ready, with its first picture drawn. `page.errors` collects what went wrong on it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(_FLAGS))
        page = browser.new_page(viewport={"width": width, "height": height}, accept_downloads=True,
                                color_scheme="dark" if dark else "light")
        page.set_default_timeout(1e3 * READY_SECONDS)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        yield page
        browser.close()


def settled(page: Any) -> None:
    """Wait until the newest edit is shown at full size."""
    page.wait_for_timeout(60)
    page.wait_for_function("() => document.body.dataset.quality === 'full' && document.body.dataset.pending === 'no'")


def dragged(page: Any, selector: str, start: float, stop: float, *, moves: int, pause: float = 16.0) -> None:
    """Drag a slider from one share of its length to another in so many moves, `pause` ms apart."""
    box = page.locator(selector).bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    for i in range(moves):
        page.mouse.move(box["x"] + (start + (stop - start) * (i + 1) / moves) * box["width"], y)
        page.wait_for_timeout(pause)
    page.mouse.up()
