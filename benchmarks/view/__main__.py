"""How quickly the viewer answers: through its real command, socket and page, in headless Chromium.

    python -m benchmarks.view [PHOTO] [--out benchmarks/results/view.jsonl] [--recording docs/view.webp]

A slider is dragged for some seconds, then let go, again and again. Rows: pictures a second while it is dragged, time
from a move to its picture on the canvas, and time from letting go to the picture of the whole size. The photo (default:
the sample that ships) is enlarged, so that its portrait has 1024 px. `--recording` writes a film of a use of the page.
The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.harness import append_rows, describe_machine
from benchmarks.view.browser import chromium, dragged, opened, settled, viewing
from pie_jax.cli import command
from pie_jax.errors import ResourceError
from pie_jax.io import replace_file
from pie_jax.pack import find_pack

PICTURES_A_SECOND, FULL_MS = 15.0, 300.0  # the bars on two cores
_SIDE = 1600  # px of the enlarged photo
_MOVES, _ROUNDS = 90, 8
_WATCH = """() => {
  window.seen = [];
  new MutationObserver(() => { const { latency, quality, ms } = document.body.dataset;
    window.seen.push({ at: performance.now(), latency: +latency, quality, ms: +ms }); })
    .observe(document.body, { attributes: true, attributeFilter: ['data-seq'] });
}"""


def parser() -> argparse.ArgumentParser:
    options = command.Parser(module="benchmarks.view", description=__doc__)
    command.add_debug(options)
    options.add_argument("photo", nargs="?", metavar="PHOTO")
    options.add_argument("--out", metavar="FILE")
    options.add_argument("--recording", metavar="FILE", help="film to write, .webp")
    options.add_argument("--more", nargs="*", default=[], metavar="PHOTO", help="photos beside it in the recording")
    return options


@command.guarded_main
def main(argv: list[str]) -> int | None:
    arguments = parser().parse_args(argv)
    if chromium() is None:
        raise ResourceError("no Chromium here; install it, for example Debian's package chromium")
    command.configure("auto")
    photo = pathlib.Path(arguments.photo or find_pack("demo") / "photo.png")
    with tempfile.TemporaryDirectory() as folder:
        large = pathlib.Path(folder) / "me.png"
        with Image.open(photo) as image:
            image.convert("RGB").resize((_SIDE, round(_SIDE * image.height / image.width)),
                                        Image.Resampling.LANCZOS).save(large)
        found = measured(large)
        if arguments.recording:
            record(pathlib.Path(arguments.recording), [str(photo), *arguments.more])
    row = {"kind": "view", **found, **describe_machine()}
    if arguments.out:
        append_rows(arguments.out, [row])
    print(json.dumps({**found, "bars": {"pictures_a_second": PICTURES_A_SECOND, "full_ms": FULL_MS}}))


def measured(photo: pathlib.Path) -> dict[str, Any]:
    """The figures of one photo."""
    began = time.perf_counter()
    with viewing([str(photo)]) as (address, _), opened(address) as page:
        settled(page)
        first = time.perf_counter() - began
        dragged(page, "#slider-yaw", 0.4, 0.6, moves=10)  # both programs are there now
        settled(page)
        page.evaluate(_WATCH)
        rates, fast, full = [], [], []
        for i in range(_ROUNDS):
            page.evaluate("() => { window.seen.length = 0; }")
            dragged(page, "#slider-yaw" if i % 2 else "#slider-smile", 0.35, 0.65, moves=_MOVES)
            settled(page)
            seen = page.evaluate("() => window.seen")
            moving = [one for one in seen if one["quality"] == "fast"]
            rates.append(1e3 * (len(moving) - 1) / (moving[-1]["at"] - moving[0]["at"]))
            fast += [one["latency"] for one in moving]
            full.append(seen[-1]["latency"])
        size = page.evaluate("() => document.getElementById('edited').width")
    return {"pictures_a_second": round(statistics.median(rates), 1), "fast_ms": round(statistics.median(fast), 1),
            "fast_ms_p95": round(float(np.percentile(fast, 95)), 1), "full_ms": round(statistics.median(full), 1),
            "full_px": size, "fast_px": 256, "rounds": _ROUNDS, "first_picture_s": round(first, 1)}


def record(path: pathlib.Path, photos: Sequence[str], *, seconds: float = 20.0) -> None:
    """Film a use of the page, as the browser shows it, into an animated WebP."""
    frames: list[tuple[float, bytes]] = []
    with viewing(list(photos)) as (address, _), opened(address, width=1120, height=700) as page:
        settled(page)
        session = page.context.new_cdp_session(page)

        def frame(event: dict) -> None:
            frames.append((event["metadata"]["timestamp"], base64.b64decode(event["data"])))
            session.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

        session.on("Page.screencastFrame", frame)
        session.send("Page.startScreencast", {"format": "jpeg", "quality": 92, "everyNthFrame": 2})
        _play(page)
        session.send("Page.stopScreencast")
        page.wait_for_timeout(300)
    shown = frames_at(frames, rate=8.0, seconds=seconds)
    buffer = io.BytesIO()
    pictures = [Image.open(io.BytesIO(data)).convert("RGB").resize((896, 560), Image.Resampling.LANCZOS)
                for data in shown]
    pictures[0].save(buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=125, loop=0, quality=62,
                     method=4)
    replace_file(path, buffer.getvalue())


def frames_at(frames: Sequence[tuple[float, bytes]], *, rate: float, seconds: float) -> list[bytes]:
    """What was on the screen at even times; frames (time, picture) come whenever it changes."""
    start = frames[0][0]
    stop = min(frames[-1][0] - start, seconds)
    times = np.array([at - start for at, _ in frames])
    return [frames[int(np.searchsorted(times, at, side="right")) - 1][1] for at in np.arange(0.0, stop, 1.0 / rate)]


def _play(page: Any) -> None:
    """About twenty seconds of use."""
    dragged(page, "#slider-yaw", 0.55, 0.76, moves=35, pause=30)
    dragged(page, "#slider-yaw", 0.76, 0.26, moves=55, pause=30)
    dragged(page, "#slider-yaw", 0.26, 0.6, moves=35, pause=30)
    dragged(page, "#slider-smile", 0.43, 0.68, moves=40, pause=30)
    settled(page)
    box = page.locator("#ball").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    for i in range(70):
        angle = -0.5 + 5.0 * i / 70
        page.mouse.move(middle[0] + 40 * np.cos(angle), middle[1] + 34 * np.sin(angle))
        page.wait_for_timeout(30)
    page.mouse.up()
    settled(page)
    page.click("#split")
    frame = page.locator("#divider").bounding_box()
    y = frame["y"] + frame["height"] / 2
    page.mouse.move(frame["x"] + 13, y)
    page.mouse.down()
    for i in range(60):
        page.mouse.move(frame["x"] + 13 + 150 * np.sin(i / 9.5), y)
        page.wait_for_timeout(30)
    page.mouse.up()
    page.click("#split")
    page.click("text=Surprised")
    settled(page)
    page.wait_for_timeout(900)
    page.keyboard.press("Control+z")
    settled(page)
    page.wait_for_timeout(700)


if __name__ == "__main__":
    sys.exit(main())
