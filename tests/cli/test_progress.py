"""The progress line on a terminal and off one, and durations."""

import io
import re

import pytest

from pie_jax.cli import progress


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("seconds,text", [(0, "0 s"), (59.4, "59 s"), (65, "1 min 05 s"), (3780, "1 h 03 min")])
def test_durations(seconds, text):
    assert progress.duration(seconds) == text


def test_plain_lines_off_a_terminal(clock):
    stream = io.StringIO()
    with progress.Progress(stream) as bar:
        bar.note("compiling")
        bar.start("face.png")
        for step in range(0, 101):
            bar.update(step, 100, energy=1.5, what="W")
            clock[0] += 0.5
    lines = stream.getvalue().splitlines()
    assert "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()
    assert lines[0] == "compiling" and lines[1] == "face.png: step 0/100, W, energy 1.5"
    assert lines[2] == "face.png: step 20/100, W, energy 1.5, 2.0 steps/s, ETA 40 s"
    assert lines[-1].endswith("2.0 steps/s, done") and len(lines) == 7


def test_one_bar_on_a_terminal(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    stream = Terminal()
    with progress.Progress(stream) as bar:
        bar.start("a name far too long for a line of ninety columns that must be cut somewhere.png")
        for step in range(0, 1001, 10):
            bar.update(step, 1000, energy=0.01234)
            clock[0] += 0.2
        bar.note("between")
        bar.update(1000, 1000)
    text = stream.getvalue()
    assert "ETA 10 s" in text and "done" in text
    shown = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))
    assert "━" in text and "0.01234" in text and "between" in shown and "a name far too long" in text
    assert max(len(line) for line in shown) <= 90
    assert text.endswith("\x1b[2K") and text.count("\x1b[?25h") == text.count("\x1b[?25l")  # bar gone, cursor back


def test_names_that_the_encoding_cannot_say_are_escaped(clock):
    class Western(Terminal):
        encoding = "cp1252"

        def write(self, text):
            return super().write(text.encode(self.encoding).decode(self.encoding))

    for stream in (Western(), type("Western", (Western,), {"isatty": lambda self: False})()):
        with progress.Progress(stream) as bar:
            bar.start("写真.png")
            bar.update(1, 2)
            bar.note("a\ud800b")
        assert "\\u5199\\u771f.png" in stream.getvalue() and "a\\ud800b" in stream.getvalue() and not bar.quiet


def test_quiet_and_closed_streams(clock):
    stream = io.StringIO()
    bar = progress.Progress(stream, quiet=True)
    bar.update(1, 2)
    bar.note("x")
    assert stream.getvalue() == ""
    bar.warn("y")
    assert stream.getvalue() == "y\n"
    closed = io.StringIO()
    closed.close()
    progress.Progress(Terminal()).clear()
    bar = progress.Progress.__new__(progress.Progress)
    bar.__dict__ = {**progress.Progress(io.StringIO()).__dict__, "stream": closed}
    bar.note("nobody reads this")
    assert bar.quiet
