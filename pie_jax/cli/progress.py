"""What a command says while it works: one bar on a terminal, plain lines anywhere else, all on stderr."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

_REDRAW_SECONDS = 0.1
_PLAIN_SECONDS = 10.0
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
        self._drawn = False
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
            self._write(text + "\n")

    def warn(self, text: str) -> None:
        """As `note`, also when quiet."""
        self.clear()
        self._write(text + "\n")

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
        if self._drawn:
            self._write("\r\x1b[2K")
            self._drawn = False

    def _draw(self, fraction: float, facts: Sequence[str]) -> None:
        columns = max(40, shutil.get_terminal_size((100, 24)).columns) - 1
        tail = "  ".join(facts)
        label = self._label[:max(8, columns - len(tail) - 16)]
        width = min(28, columns - len(tail) - len(label) - 4)
        if width >= 6:  # the bar has colour codes: it must not be cut
            text = "  ".join([*([label] if label else []), _bar(fraction, width, self.stream), tail])
        else:
            text = "  ".join([*([label] if label else []), tail])[:columns]
        self._write("\r\x1b[2K" + text)
        self._drawn = True

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except UnicodeEncodeError:
            self.stream.write(text.encode("ascii", "backslashreplace").decode())
            self.stream.flush()
        except (BrokenPipeError, ValueError):  # the reader of stderr is gone: work on in silence
            self.quiet = True


def _bar(fraction: float, width: int, stream: TextIO) -> str:
    fraction = min(max(fraction, 0.0), 1.0)
    if "utf" not in (getattr(stream, "encoding", "") or "").lower():
        full = int(fraction * width)
        return "[" + "#" * full + "." * (width - full) + "]"
    eighths = int(fraction * width * 8)
    full, rest = divmod(eighths, 8)
    filled = "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
    return "\x1b[36m" + filled + "\x1b[90m" + "─" * (width - len(filled)) + "\x1b[0m"
