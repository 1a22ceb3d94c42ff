"""JAX's settings: memory that is kept between the calls of a program."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import jax, jax.numpy as jnp
if sys.argv[1] == "configured":
    from pie_jax import runtime
    runtime.configure(cache=False, device="cpu")

@jax.jit
def program(x):
    squares = jax.lax.optimization_barrier(jnp.square(x))  # 64 MB of working memory
    return jnp.sum(squares[::-1] * squares)

x = jnp.ones(2**24)
faults = []
for i in range(16):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    jax.block_until_ready(program(x))
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(faults)[8])  # the first calls of each of JAX's threads find no memory that is free
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_configured_programs_get_their_working_memory_again():
    def faults(how):
        done = subprocess.run([sys.executable, "-c", STEPS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    with_settings, without = faults("configured"), faults("plain")
    assert with_settings < 100
    assert without > 20 * with_settings or without < 100  # a system of huge pages has few of either
