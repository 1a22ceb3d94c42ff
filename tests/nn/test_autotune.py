"""Bounds that are measured: choices follow the times, are kept, and never stop or change what is computed."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from pie_jax import programs, runtime
from pie_jax.bounds import ALL, Bounds, Range, committed_bounds
from pie_jax.cli import command
from pie_jax.embed import arguments as embed_arguments
from pie_jax.nn import autotune, layers
from pie_jax.nn.autotune import PROBES, decide
from pie_jax.nn.probes import FORMS, Probe, Times, time_probes

NONE = Bounds(winograd=(), fused_upsample=())
EVERYWHERE = Bounds(winograd=(Range(1, 0, ALL),), fused_upsample=(Range(512, 0, ALL),))
COMMITTED = [committed_bounds(threads, shares_products=shares) for threads in (1, 2, 8) for shares in (False, True)]


def answers(bounds):
    """Whether each probe takes its other form."""
    return {probe: probe.range_in(bounds).holds(probe.size) for probe in PROBES}


class Timer:
    """Stands for `time_probes` on a machine where the other form takes `ratio(probe)` of the direct one's time."""

    def __init__(self, ratio):
        self.ratio, self.calls = ratio, 0

    def __call__(self, probes):
        self.calls += 1
        return {probe: Times((1e-3, 1.1e-3), (self.ratio(probe) * 1e-3,) * 2) for probe in probes}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 16 threads with an empty cache folder, in a process that has not chosen."""
    monkeypatch.setattr(runtime, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(runtime, "keeps_programs", lambda: True)
    monkeypatch.setattr(runtime, "threads", lambda: 16)
    monkeypatch.setattr(runtime, "_chosen_bounds", [])
    return tmp_path / "bounds"


@pytest.mark.parametrize("committed", COMMITTED)
def test_choices_follow_the_times(committed):
    def wins(probe):
        return min(probe.shape[3], probe.features) >= 64 and probe.size < 2**20

    found = decide(committed, Timer(lambda probe: 0.5 if wins(probe) else 2.0)(PROBES))
    assert answers(found) == {probe: wins(probe) for probe in PROBES}
    assert all(answers(decide(committed, Timer(lambda probe: 0.5)(PROBES))).values())
    assert not any(answers(decide(committed, Timer(lambda probe: 2.0)(PROBES))).values())


@pytest.mark.parametrize("committed", COMMITTED)
@pytest.mark.parametrize("ratio", [0.9, 1.1])
def test_what_is_about_as_fast_stays_as_committed(committed, ratio):
    found = decide(committed, Timer(lambda probe: ratio)(PROBES))
    for channels in (16, 32, 64, 128, 256, 512):
        for size in (2**10, 2**18, 2**20, 2**20 + 1, 2**24, 2**24 + 1, 2**26):
            assert found.winograd_range(channels).holds(size) is committed.winograd_range(channels).holds(size)
            assert found.fused_range(channels).holds(size) is committed.fused_range(channels).holds(size)


@pytest.mark.parametrize("committed", COMMITTED)
def test_one_disturbed_pass_changes_nothing(committed):
    disturbed = {probe: Times((1e-3, 9e-3), (9e-3, 1e-3)) for probe in PROBES}
    assert answers(decide(committed, disturbed)) == answers(committed)


def test_only_large_arrays_may_take_the_other_form():
    found = decide(NONE, Timer(lambda probe: 0.5 if probe.size > 2**20 else 2.0)(PROBES))
    assert found.winograd_range(64) == Range(64, 2**20, ALL) and not found.winograd_range(64).holds(2**20)


def test_a_machine_is_measured_once(machine):
    timer = Timer(lambda probe: 0.5)
    found = autotune.machine_bounds("auto", time=timer)
    assert found == decide(runtime.backend().bounds, timer(PROBES)) and timer.calls == 2
    again = Timer(lambda probe: 2.0)
    assert autotune.machine_bounds("auto", time=again) == found and again.calls == 0
    assert len(list(machine.iterdir())) == 1


@pytest.mark.parametrize("fact", ["_processor", "_kernels"])
def test_another_machine_is_measured_anew(machine, monkeypatch, fact):
    autotune.machine_bounds("auto", time=Timer(lambda probe: 0.5))
    monkeypatch.setattr(autotune, fact, lambda: "another")
    again = Timer(lambda probe: 2.0)
    assert not any(answers(autotune.machine_bounds("auto", time=again)).values()) and again.calls == 1
    monkeypatch.setattr(runtime, "threads", lambda: 8)
    autotune.machine_bounds("auto", time=again)
    assert again.calls == 2 and len(list(machine.iterdir())) == 3


@pytest.mark.parametrize("how, threads, measured", [("auto", 1, 0), ("auto", 2, 0), ("auto", 3, 1), ("always", 1, 1),
                                                    ("never", 64, 0)])
def test_when_it_is_measured(machine, monkeypatch, how, threads, measured):
    monkeypatch.setattr(runtime, "threads", lambda: threads)
    timer = Timer(lambda probe: 1.0)
    found = autotune.machine_bounds(how, time=timer)
    assert timer.calls == measured and answers(found) == answers(runtime.backend().bounds)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"bounds": {}}', b"\xff" * 9])
def test_a_damaged_file_is_measured_again(machine, damage):
    found = autotune.machine_bounds("auto", time=Timer(lambda probe: 0.5))
    (path,) = machine.iterdir()
    path.write_bytes(damage)
    timer = Timer(lambda probe: 0.5)
    assert autotune.machine_bounds("auto", time=timer) == found and timer.calls == 1
    assert autotune.machine_bounds("auto", time=timer) == found and timer.calls == 1


def test_a_choice_that_cannot_be_kept_is_not_made(machine, monkeypatch):
    committed, timer = runtime.backend().bounds, Timer(lambda probe: 0.5)
    machine.write_text("a file where the folder should be")
    assert autotune.machine_bounds("always", time=timer) == committed and timer.calls == 0
    machine.unlink()
    autotune.machine_bounds("always", time=timer)
    (path,) = machine.iterdir()
    path.unlink()
    path.mkdir()  # cannot be replaced by a file
    assert autotune.machine_bounds("always", time=timer) == committed
    monkeypatch.setattr(runtime, "keeps_programs", lambda: False)
    calls = timer.calls
    assert autotune.machine_bounds("always", time=timer) == committed and timer.calls == calls


def test_a_measurement_that_fails_stops_nothing(machine):
    def broken(probes):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")

    assert autotune.machine_bounds("always", time=broken) == runtime.backend().bounds
    assert list(machine.iterdir()) == []


def test_commands_that_start_together_measure_once(machine):
    inside, both, found = threading.Event(), threading.Event(), []

    class Slow(Timer):
        def __call__(self, probes):
            inside.set()
            both.wait(10)
            return super().__call__(probes)

    slow, other = Slow(lambda probe: 0.5), Timer(lambda probe: 2.0)
    first = threading.Thread(target=lambda: found.append(autotune.machine_bounds("auto", time=slow)))
    second = threading.Thread(target=lambda: found.append(autotune.machine_bounds("auto", time=other)))
    first.start()
    inside.wait(10)
    second.start()
    both.set()
    first.join()
    second.join()
    assert found[0] == found[1] and (slow.calls, other.calls) == (1, 0)


def test_the_first_choice_of_a_process_holds(machine, monkeypatch):
    monkeypatch.setattr(autotune, "machine_bounds", lambda how: {"always": EVERYWHERE, "never": NONE}[how])
    autotune.choose_bounds("always")
    autotune.choose_bounds("never")
    assert runtime.backend().bounds == EVERYWHERE
    with pytest.raises(ValueError, match="how: expected one of"):
        autotune.choose_bounds("sometimes")


def test_an_accelerator_has_no_bounds(machine, monkeypatch):
    monkeypatch.setattr(autotune, "machine_bounds", lambda how: pytest.fail("measured"))
    with runtime.made_for(runtime.Backend(platform="gpu")):
        autotune.choose_bounds("always")
    assert not runtime.has_chosen_bounds()


def test_the_flag_reaches_the_choice(machine, monkeypatch):
    told = []
    monkeypatch.setattr(autotune, "choose_bounds", told.append)
    monkeypatch.setattr(runtime, "configure", lambda **knobs: None)
    for words in ((), ("--autotune", "never")):
        command.configure("cpu", autotune=embed_arguments.parse(["photo.png", *words]).autotune)
    command.configure("cpu")
    assert told == ["auto", "never"]


def test_bounds_are_part_of_a_kept_programs_key(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(programs, "keeps_programs", lambda: True)
    monkeypatch.setattr(programs, "_used", [])
    function = programs.kept()(lambda x: x + (1.0 if runtime.backend().bounds == NONE else 2.0))
    for bounds, expected in ((NONE, 1.0), (EVERYWHERE, 2.0), (NONE, 1.0)):
        with runtime.made_for(runtime.Backend(platform="cpu", bounds=bounds)):
            assert float(function(np.float32(0.0))) == expected
    assert len(list((tmp_path / "programs").glob("*.code"))) == 2


@pytest.mark.parametrize("form", FORMS)
def test_both_forms_of_a_probe_are_timed(form):
    probe = Probe(form=form, shape=(1, 16, 16, 8), features=4)
    times = time_probes([probe])[probe]
    assert len(times.direct) == len(times.other) > 1 and min(*times.direct, *times.other) > 0


class Net(nn.Module):
    """The layers of a generator from 16 to 64 px."""

    @nn.compact
    def __call__(self, x, w):
        for resolution, features in ((32, 64), (64, 16)):
            x = layers.ModulatedConv(features, resolution, up=True, name=f"up{resolution}")(x, w)
            x = layers.ModulatedConv(features, resolution, name=f"same{resolution}")(x, w)
        return x


def test_results_hardly_depend_on_the_bounds():
    """The extremes: every convolution that can take its other form, and none."""
    keys = jax.random.split(jax.random.key(0), 3)
    x, w = jax.random.normal(keys[0], (1, 16, 16, 128)), jax.random.normal(keys[1], (1, 64))
    weights = jax.jit(Net().init)(keys[2], x, w)["params"]
    found, kept = [], []
    for bounds in (NONE, EVERYWHERE):
        with runtime.made_for(runtime.Backend(platform="cpu", bounds=bounds)):
            values = jax.jit(lambda p: layers.precompute(Net(), p, x, w))(weights)
            kept.append({name for branch in values.values() for name in branch} - {"power"})

            def loss(x, w, values=values):
                y = Net().apply({"params": weights, "precomputed": values}, x, w)
                return jnp.mean(jnp.square(y)), y

            found.append(jax.device_get(jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(x, w)))
    assert kept == [{"adjoint", "kernels"}, {"winograd", "fused_upsample"}]
    for a, b in zip(jax.tree.leaves(found[0]), jax.tree.leaves(found[1]), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a)
