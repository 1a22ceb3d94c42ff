"""What a command says while it works: one bar on a terminal, plain lines anywhere else, all on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from pie_jax.errors import printable

_REDRAW_SECONDS = 0.1
_PLAIN_SECONDS = 10.0
_BAR = 28  # columns of the bar
_RATE_SECONDS = 20.0  # the rate is that of the last so many seconds


def duration(seconds: float) -> str:
    """'8 s', '2 min 05 s', '1 h 03 min'."""
    seconds = max(0, int(round(seconds)))
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


class Progress:
    """One bar with step, energy, steps/s and ETA, and lines that go above it.

    Usable as a context manager, which clears the bar on the way out. Nothing here is drawn unless it is called:
    `note` writes one line, `update` redraws the bar at most ten times a second.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False):
        self.stream = sys.stderr if stream is None else stream
        self.quiet = quiet
        self.terminal = bool(getattr(self.stream, "isatty", lambda: False)())
        self._bar: _TerminalBar | None = None
        self._last_drawn = float("-inf")
        self._history: list[tuple[float, int]] = []
        self._label, self._unit = "", "step"

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception) -> None:
        self.clear()

    def note(self, text: str) -> None:
        """One full line; the bar, if any, is cleared first and comes back with the next update."""
        self.clear()
        if not self.quiet:
            self._write(printable(text) + "\n")

    def warn(self, text: str) -> None:
        """As `note`, also when quiet."""
        self.clear()
        self._write(printable(text) + "\n")

    def start(self, label: str, *, unit: str = "step") -> None:
        """Name the work and the unit that the next updates count; forgets the rate of the work before."""
        self._label, self._unit, self._history, self._last_drawn = label, unit, [], float("-inf")

    def update(self, step: int, total: int, *, energy: float | None = None, what: str = "") -> None:
        """`step` of `total` is done; `energy` is shown where it is known, `what` names the phase."""
        now = time.monotonic()
        self._history.append((now, step))
        while len(self._history) > 2 and now - self._history[0][0] > _RATE_SECONDS:
            self._history.pop(0)
        facts = [f"{self._unit} {step}/{total}"]
        if what:
            facts.append(what)
        if energy is not None:
            facts.append(f"energy {energy:.4g}")
        rate = self.rate()
        if rate > 0:
            facts += [f"{rate:.1f} {self._unit}s/s" if rate < 100 else f"{rate:.0f} {self._unit}s/s"]
            facts += [f"ETA {duration((total - step) / rate)}" if step < total else "done"]
        self.status(step / max(total, 1), facts, last=step >= total)

    def status(self, fraction: float, facts: Sequence[str], *, last: bool = False) -> None:
        """Redraw the bar at `fraction` of the work with `facts`, at most ten times a second but for the `last` time."""
        now = time.monotonic()
        if self.quiet or (now - self._last_drawn < (_REDRAW_SECONDS if self.terminal else _PLAIN_SECONDS) and not last):
            return
        self._last_drawn = now
        if self.terminal:
            self._draw(fraction, facts)
        else:
            self._write(f"{self._label}: {', '.join(facts)}\n" if self._label else ", ".join(facts) + "\n")

    def rate(self) -> float:
        """Steps a second lately; 0 before two updates."""
        if len(self._history) < 2:
            return 0.0
        (then, before), (now, step) = self._history[0], self._history[-1]
        return (step - before) / (now - then) if now > then else 0.0

    def clear(self) -> None:
        """Take the bar off the terminal."""
        if self._bar is not None:
            bar, self._bar = self._bar, None
            self._safely(bar.stop)

    def _draw(self, fraction: float, facts: Sequence[str]) -> None:
        def draw() -> None:
            if self._bar is None:
                self._bar = _TerminalBar(self.stream)
            self._bar.draw(fraction, encodable(self._label, self.stream), "  ".join(facts))

        self._safely(draw)

    def _write(self, text: str) -> None:
        def write() -> None:
            self.stream.write(encodable(text, self.stream))
            self.stream.flush()

        self._safely(write)

    def _safely(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (BrokenPipeError, ValueError):  # the reader of stderr is gone: work on in silence
            self.quiet, self._bar = True, None


def encodable(text: str, stream: TextIO) -> str:
    """`text` with what the encoding of `stream` cannot say written as escapes."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


class _TerminalBar:
    """A bar of rich, redrawn only when told: no thread of its own, and what others write is left alone."""

    def __init__(self, stream: TextIO):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.bar = BarColumn(bar_width=_BAR)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False), self.bar, TextColumn("{task.fields[facts]}", markup=False),
            console=Console(file=stream, force_terminal=True, highlight=False), auto_refresh=False, transient=True,
            redirect_stdout=False, redirect_stderr=False)
        self.task = self.progress.add_task("", total=1.0, facts="")
        self.progress.start()

    def draw(self, fraction: float, label: str, facts: str) -> None:
        from rich.cells import cell_len, set_cell_size

        room = self.progress.console.width - cell_len(facts) - 3  # of label and bar; spaces between columns
        width = self.bar.bar_width = min(max(room - cell_len(label), _BAR // 4), _BAR)
        if cell_len(label) > room - width:  # the label gives way first, then the bar
            label = set_cell_size(label, max(room - width - 1, 0)) + "…" if room > width else ""
        self.progress.update(self.task, completed=min(max(fraction, 0.0), 1.0), description=label, facts=facts)
        self.progress.refresh()

    def stop(self) -> None:
        self.progress.stop()
