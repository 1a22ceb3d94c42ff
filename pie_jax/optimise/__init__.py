"""AdaDelta or Adam stages over any energy: one compiled step, scanned in chunks, until every portrait has had its part.

This package knows no face and no network. An energy is a hashable callable

    energy(inputs, latent [B, L, D], keys [B]) -> (energies [B], {term: values [B]})

whose portraits do not look at each other; `inputs` is any pytree (weights, targets) passed as an argument.
"""

from pie_jax.optimise.micro_batches import MicroBatches
from pie_jax.optimise.stage import MAX_RETRIES, Incident, Progress, StageResult, run_stage
from pie_jax.optimise.state import (
    State,
    direction,
    portrait_keys,
    start_stage,
    state_arrays,
    state_from_arrays,
    to_device,
    to_host,
    to_latent,
)
from pie_jax.optimise.step import (
    Axes,
    Energy,
    compilation_key,
    compile_chunk,
    learning_rate,
    make_steps_early,
    problem_names,
    run_chunk,
)

__all__ = [
    "MAX_RETRIES",
    "Axes",
    "Energy",
    "Incident",
    "MicroBatches",
    "Progress",
    "StageResult",
    "State",
    "compilation_key",
    "compile_chunk",
    "direction",
    "learning_rate",
    "make_steps_early",
    "portrait_keys",
    "problem_names",
    "run_chunk",
    "run_stage",
    "start_stage",
    "state_arrays",
    "state_from_arrays",
    "to_device",
    "to_host",
    "to_latent",
]
