"""The worker: in order, but of what replaces each other only the newest; errors reach who asked."""

import threading
from concurrent.futures import CancelledError

import pytest

from pie_jax.view.worker import Worker


def started(worker):
    thread = threading.Thread(target=worker.run, kwargs={"pause": 0.05})
    thread.start()
    return thread


def test_only_the_newest_picture_is_made_and_it_comes_first():
    worker, done = Worker(), []
    slow = worker.submit(lambda: done.append("slow"))
    moves = [worker.submit_newest("page", lambda i=i: done.append(i)) for i in range(50)]
    other = worker.submit_newest("another page", lambda: done.append("other"))
    thread = started(worker)
    assert slow.result(5) is None and other.result(5) is None
    worker.stop()
    thread.join(5)
    assert done == [49, "other", "slow"] and not worker.waiting()
    assert all(move.cancelled() for move in moves[:-1]) and not moves[-1].cancelled()


def test_an_error_is_the_askers_and_the_worker_goes_on():
    worker = Worker()
    bad, good = worker.submit(lambda: 1 / 0), worker.submit(lambda: 7)
    thread = started(worker)
    with pytest.raises(ZeroDivisionError):
        bad.result(5)
    assert good.result(5) == 7
    worker.stop()
    thread.join(5)
    assert not thread.is_alive()


def test_what_waits_when_it_stops_is_cancelled():
    worker = Worker()
    waiting = [worker.submit(lambda: 1), worker.submit_newest("page", lambda: 2)]
    worker.stop()
    worker.run()
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(0)
