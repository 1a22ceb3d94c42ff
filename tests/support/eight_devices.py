"""A script for tests: toy portraits embedded on one device and over eight virtual ones; prints one JSON object.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python tests/eight_devices.py
"""

import json

import jax
import numpy as np
import toy

from pie_jax.config import EmbedConfig, EnergyConfig, StageConfig
from pie_jax.optimise import step
from pie_jax.pack import Pack
from pie_jax.portrait import Embedding, embed_portraits

TERMS = ("synthesis", "edit")
COUNT = 11  # two batches of eight, the second filled up


def embedded(pack: Pack, portraits: np.ndarray, **where) -> list[Embedding]:
    """Both stages, in more than one chunk each."""
    stages = tuple(StageConfig(space=space, steps=3, chunk=2) for space in ("w", "w_plus"))
    config = EmbedConfig(energy=EnergyConfig(terms=TERMS, controls=("pose",), render_resolution=16), stages=stages)
    return embed_portraits(pack, portraits, config=config, **where)


def farthest(some: list[Embedding], others: list[Embedding]) -> float:
    """The largest difference between the codes of a portrait, over how far those of different portraits lie apart."""
    a, b = (np.stack([e.w_plus for e in found]) for found in (some, others))
    return float(np.abs(a - b).max() / np.abs(b - b.mean(0)).max())


TRACED: list[str] = []  # names of the functions traced so far


def _note(event: str, _: float, *, fun_name: str = "", **__) -> None:
    if event.endswith("jaxpr_trace_duration"):
        TRACED.append(fun_name)


def traces() -> int:
    """How often the optimiser's program has been traced: one compilation follows each."""
    return sum(name in ("_run_step", "_run_chunk") for name in TRACED)


def main() -> None:
    jax.monitoring.register_event_duration_secs_listener(_note)
    devices = jax.devices()
    pack = toy.toy_pack(jax.random.key(0), configs=toy.SMALLEST)
    portraits = np.asarray(toy.portraits(jax.random.key(1), COUNT, pack=pack))
    alone = embedded(pack, portraits)
    begun = traces()
    spread = embedded(pack, portraits, batch=3, devices=devices)
    one_program = traces() - begun
    step._run_steps = step._run_chunk  # what an accelerator runs: whole chunks in one scan
    scanned = embedded(pack, portraits[:8], batch=8, devices=devices)
    print(json.dumps({
        "devices": len(devices), "batch": spread[0].report["batch"], "programs": one_program,
        "programs_scanned": traces() - begun - one_program,
        "spread": farthest(spread, alone), "scanned": farthest(scanned, alone[:8]),
        "finished": all(e.report["outcome"] == "finished" for e in [*spread, *scanned])}))


if __name__ == "__main__":
    main()
