"""Batches over several devices: the same results as on one, one program, whatever the optimiser's loop."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from pie_jax.errors import ResourceError
from pie_jax.portrait.sharding import portrait_mesh
from pie_jax.runtime import local_devices

HERE = pathlib.Path(__file__).parents[1] / "support"


def test_eight_devices_give_what_one_gives():
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
                    "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run([sys.executable, HERE / "eight_devices.py"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["devices"] == facts["batch"] == 8 and facts["finished"]
    assert facts["spread"] < 1e-3 and facts["scanned"] < 1e-3
    assert facts["programs"] == facts["programs_scanned"] == 1  # both batches and both stages share one


def test_devices_that_are_not_here():
    assert local_devices() == local_devices(count=1) == jax.devices()[:1]
    for count in (0, 99):
        with pytest.raises(ResourceError, match="this process has 1"):
            local_devices(count=count)
    with pytest.raises(ValueError, match="devices"):
        portrait_mesh([])
