"""Ctrl-C, SIGTERM and a terminal that closes (SIGHUP).

They are answered at once by a saving thread, or at the next chunk of a loop that saves by itself.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from pie_jax.errors import EXIT_INTERRUPTED

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def _heard() -> list[int]:
    """The signals that are answered: all but a SIGHUP that is ignored already, as under nohup."""
    ignored = getattr(signal, "SIGHUP", None)
    return [n for n in _SIGNALS if n != ignored or signal.getsignal(n) is not signal.SIG_IGN]


class StopRequest:
    """While it is entered, the first signal sets `asked`, which a loop reads between chunks; a second acts as usual.

    Off the main thread nothing is changed.
    """

    def __init__(self):
        self.asked = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in _heard():
                self._handlers[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True
        signal.signal(number, self._handlers[number])

    def __exit__(self, *exception) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


class Interruption:
    """While it is entered, the first signal calls `save()` from a thread of its own and ends the process with 130.

    Python runs signal handlers on the main thread only, which may sit in a compilation for a minute; a wake-up socket
    reaches a waiting thread immediately. `busy` is held while results are written, so that the end waits for them. A
    second signal ends the process at once. Off the main thread nothing is changed.
    """

    def __init__(self, save: Callable[[], None]):
        self.save = save
        self.busy = threading.RLock()
        self._active = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._handlers = {number: signal.signal(number, lambda *_: None) for number in _heard()}
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._active = True
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        if not self._active:
            return
        self._active = False
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._writer.send(b"\0")  # not a signal we answer: the thread ends
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def _watch(self) -> None:
        while True:
            number = self._reader.recv(1)
            if number in (b"", b"\0"):
                return
            if number[0] in self._handlers:
                break
        second = threading.Thread(target=self._second, daemon=True)
        second.start()
        try:
            with self.busy:
                self.save()
        finally:
            os._exit(EXIT_INTERRUPTED)

    def _second(self) -> None:
        while self._reader.recv(1)[0] not in self._handlers:
            pass
        os._exit(EXIT_INTERRUPTED)
