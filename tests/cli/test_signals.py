"""A signal is answered at once, whatever compiled code the main thread is in: shown by code that never returns."""

import os
import signal
import subprocess
import sys

import pytest

from pie_jax.cli.signals import Interruption, StopRequest

ENDLESS = """
import signal
import sys
import jax
import jax.numpy as jnp
from pie_jax.cli.signals import Interruption

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests themselves run under nohup
jax.config.update("jax_cpu_enable_async_dispatch", False)  # the main thread itself is in the program
endless = jax.jit(lambda x: jax.lax.while_loop(lambda s: s >= 0, lambda s: (s + 1) % 7, x))
program = endless.lower(jnp.int32(1)).compile()


def save():
    print("saved", flush=True)
    if sys.argv[1] == "stuck":
        while True:
            pass


with Interruption(save):
    print("running", flush=True)
    program(jnp.int32(1)).block_until_ready()
print("returned", flush=True)
"""
SAFETY = 120  # seconds: never reached unless the answer never comes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_answer_does_not_wait_for_the_main_thread(number):
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, "quick"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "running\n"
        process.send_signal(number)
        assert process.communicate(timeout=SAFETY)[0] == "saved\n" and process.returncode == 130
    finally:
        process.kill()


def test_a_second_signal_does_not_wait_for_the_saving():
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, "stuck"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "saved\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=SAFETY)[0] == "" and process.returncode == 130
    finally:
        process.kill()


def test_a_hang_up_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest(), Interruption(lambda: None):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with Interruption(lambda: None):
        assert all(signal.getsignal(number) is not handler for number, handler in before.items())
    assert all(signal.getsignal(number) is handler for number, handler in before.items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_is_asked_for_once_and_the_second_signal_acts_as_usual(number):
    heard = []
    before = signal.signal(number, lambda *_: heard.append(number))
    try:
        with StopRequest() as stop:
            assert not stop.asked
            os.kill(os.getpid(), number)
            assert stop.asked and not heard
            os.kill(os.getpid(), number)
            assert heard == [number]
    finally:
        signal.signal(number, before)
