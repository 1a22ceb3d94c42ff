"""Where the optimisation of one portrait is, and its file: what an interrupted run goes on from."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from pie_jax.errors import InputError
from pie_jax.io import read_npz, write_npz

FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One portrait's share of a batch. `state` holds the arrays of `optimise.state_arrays` with a batch axis of 1."""

    stage: int  # index of the stage it is in
    state: dict[str, np.ndarray]  # each [1, ...]
    traces: tuple[dict[str, np.ndarray], ...]  # a stage each, this one included: "energy" and every term, [steps]
    incidents: tuple[dict, ...]  # non-finite values met so far
    seconds: float  # spent in steps so far

    @property
    def w_plus(self) -> np.ndarray:
        """[L, D] its code as of now."""
        return self.state["state_0"][0]  # the latent is the state's first leaf

    def save(self, path: str | os.PathLike, *, facts: dict) -> None:
        """Write with `facts` (JSON-able: what it belongs to), whole or not at all. Raises ResourceError."""
        arrays = {f"state/{name}": array for name, array in self.state.items()}
        for index, trace in enumerate(self.traces):
            arrays |= {f"trace/{index}/{name}": array for name, array in trace.items()}
        own = {"format": FORMAT, "stage": self.stage, "stages": len(self.traces), "incidents": list(self.incidents),
               "seconds": self.seconds}
        arrays["facts"] = np.array(json.dumps(facts | {"checkpoint": own}, sort_keys=True))
        write_npz(path, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Checkpoint:
        """Read what `save` wrote, without pickles. Raises InputError."""
        arrays = read_npz(path)
        try:
            own = json.loads(str(arrays["facts"]))["checkpoint"]
            if own["format"] != FORMAT:
                raise ValueError(f"format {own['format']}")
            traces = tuple({name.split("/", 2)[2]: a for name, a in arrays.items() if name.startswith(f"trace/{i}/")}
                           for i in range(own["stages"]))
            state = {name.removeprefix("state/"): a for name, a in arrays.items() if name.startswith("state/")}
            return cls(stage=int(own["stage"]), state=state, traces=traces, incidents=tuple(own["incidents"]),
                       seconds=float(own["seconds"]))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"{path}: not a checkpoint, or damaged ({error}); run with --restart") from None


def read_facts(path: str | os.PathLike) -> dict:
    """The facts stored with a checkpoint, {} where there is none that can be read. Raises nothing."""
    if not pathlib.Path(path).is_file():
        return {}
    try:
        facts = json.loads(str(read_npz(path)["facts"]))
        return facts if isinstance(facts, dict) else {}
    except (InputError, KeyError, ValueError):
        return {}


def join_states(checkpoints: Sequence[Checkpoint]) -> dict[str, np.ndarray]:
    """The states of B portraits in one stage as one: each array [B, ...]."""
    names = checkpoints[0].state
    return {name: np.concatenate([c.state[name] for c in checkpoints]) for name in names}


def join_traces(checkpoints: Sequence[Checkpoint], stage: int) -> dict[str, np.ndarray]:
    """Their traces of one stage: each array [steps, B]."""
    return {name: np.stack([c.traces[stage][name] for c in checkpoints], axis=1)
            for name in checkpoints[0].traces[stage]}
