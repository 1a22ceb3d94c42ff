"""Seconds and memory of whole embeddings, in a process of their own with as many virtual CPU devices as are asked for.

    in_a_process(cache, pack="demo", devices=2, cases=[{"photos": 4, "steps": 30}], runs=3)

A fresh process, because the number of virtual devices is settled before the first array, and the memory of one that
has compiled other programs tells nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from pie_jax.config import DEFAULT_PRESET, StageConfig, preset_stages


def stages_of(steps: int, *, encoder: bool) -> tuple[StageConfig, ...]:
    """The default preset with `steps` steps in all, shared out as it shares out its own.

    encoder: whether the pack has one, from whose guess the preset then begins.
    """
    stages = preset_stages(DEFAULT_PRESET, encoder=encoder)
    every = sum(stage.steps for stage in stages)
    return tuple(dataclasses.replace(stage, steps=max(1, round(stage.steps * steps / every))) for stage in stages)


def forget_peak() -> None:
    """Count the process's most memory anew, where the system can."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_megabytes() -> float | None:
    """The most memory since `forget_peak`; None where the system does not tell."""
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", pathlib.Path("/proc/self/status").read_text())
    except OSError:
        return None
    return round(int(found[1]) / 2**10, 1) if found else None


def measure(pack: str, devices: int, cases: Sequence[dict], *, runs: int = 1) -> list[dict]:
    """Figures of each case {photos, steps}: noise embedded, a photo for each device at once; compiled before."""
    import numpy as np

    from pie_jax.config import EmbedConfig
    from pie_jax.pack import load_pack
    from pie_jax.portrait import embed_portraits
    from pie_jax.runtime import local_devices

    loaded, there = load_pack(pack), local_devices(count=devices)
    rng, side = np.random.default_rng(0), loaded.configs.generator.resolution

    def embed(photos: int, steps: int) -> None:
        config = EmbedConfig(energy=loaded.configs.energy, stages=stages_of(steps, encoder=loaded.has_encoder))
        for _ in range(0, photos, devices):  # as the command does: nothing of a photo outlives its batch
            portraits = rng.uniform(size=(devices, side, side, 3)).astype(np.float32)
            embed_portraits(loaded, portraits, config=config, batch=devices, devices=there)

    embed(devices, 2)  # compiles
    found = []
    for case in cases:
        wall, used = [], []
        forget_peak()
        for _ in range(runs):
            began, began_cpu = time.perf_counter(), time.process_time()
            embed(**case)
            wall.append(1e3 * (time.perf_counter() - began))
            used.append(1e3 * (time.process_time() - began_cpu))
        figures = {"ms": statistics.median(wall), "ms_low": min(wall), "ms_high": max(wall),
                   "cpu_ms": statistics.median(used)}
        found.append({**case, "devices": devices, **{name: round(ms, 1) for name, ms in figures.items()}, "runs": runs,
                      "s_photo": round(1e-3 * figures["ms"] / case["photos"], 3),
                      "cpu_s_photo": round(1e-3 * figures["cpu_ms"] / case["photos"], 3), "peak_mb": peak_megabytes()})
    return found


def in_a_process(cache: str, **arguments) -> list[dict]:
    """`measure(**arguments)` in a process with `devices` virtual CPU devices; `cache` keeps what it compiles."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={arguments['devices']}"
    environment = {**os.environ, "XLA_FLAGS": flags.strip(), "JAX_COMPILATION_CACHE_DIR": cache}
    done = subprocess.run([sys.executable, "-m", "benchmarks.embedding_cost", json.dumps(arguments)], env=environment,
                          cwd=pathlib.Path(__file__).parents[1], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    from pie_jax import runtime

    runtime.configure(device="cpu")
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
