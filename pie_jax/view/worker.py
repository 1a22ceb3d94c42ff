"""The one thread that computes edits: asked from the server's thread, newest pictures first.

Programs of XLA:CPU run best in the thread that started the process (see `runtime`), so that one works and the server
has another.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any


class Worker:
    """Work in order, but of what replaces each other only the newest."""

    def __init__(self):
        self._condition = threading.Condition()
        self._tasks: deque[tuple[Future, Callable[[], Any]]] = deque()
        self._newest: dict[Hashable, tuple[Future, Callable[[], Any]]] = {}
        self._stopped = False

    def submit(self, work: Callable[[], Any]) -> Future:
        """Do it once everything before is done."""
        future: Future = Future()
        with self._condition:
            self._tasks.append((future, work))
            self._condition.notify()
        return future

    def submit_newest(self, key: Hashable, work: Callable[[], Any]) -> Future:
        """Do it before all else; what waits under the same key is cancelled."""
        future: Future = Future()
        with self._condition:
            before = self._newest.pop(key, None)
            self._newest[key] = (future, work)
            self._condition.notify()
        if before is not None:
            before[0].cancel()
        return future

    def waiting(self) -> bool:
        """Whether a picture is asked for that is not begun."""
        return bool(self._newest)

    def stop(self) -> None:
        """End `run` after what it is at; what waits is cancelled."""
        with self._condition:
            self._stopped = True
            for future, _ in [*self._tasks, *self._newest.values()]:
                future.cancel()
            self._condition.notify()

    def run(self, *, pause: float = 0.2) -> None:
        """Work until `stop`. pause: seconds between looks at signals while there is nothing to do."""
        while True:
            with self._condition:
                while not (self._tasks or self._newest or self._stopped):
                    self._condition.wait(pause)
                if self._stopped:
                    return
                if self._newest:
                    future, work = self._newest.pop(next(iter(self._newest)))
                else:
                    future, work = self._tasks.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)
