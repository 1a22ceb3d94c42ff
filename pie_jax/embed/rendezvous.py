"""Which of several processes this one is, by jax.distributed: told, or found out from Slurm, GKE, Open MPI, TPU pods.

    python -m pie_jax.embed.rendezvous SECONDS [HOST:PORT COUNT INDEX]      # prints one JSON object

The processes of a run need nothing of each other but their number, and none may be stopped by another. But while a
process is connected to jax.distributed it is aborted, without an exception, when the coordinator cannot be reached or
another process dies (measured with JAX 0.10.2: 100 s later by default). So the meeting is held in a process of its own,
which leaves as soon as everybody has come; what goes wrong there is an error here, and afterwards nobody is connected.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

from pie_jax.errors import ResourceError, UsageError

WAIT_SECONDS = 300


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessInfo:
    """Process number `index` of `count`, and which of the machine's accelerators are its own ("all", or "0,3")."""

    index: int
    count: int
    visible_devices: str


def rendezvous(*, coordinator: str | None = None, count: int | None = None, index: int | None = None,
         seconds: int = WAIT_SECONDS) -> ProcessInfo:
    """Wait until all processes of the run have come, at most so long; before JAX's first array.

    Args:
      coordinator: HOST:PORT where process 0 listens, with `count` and `index`; None: the cluster knows all three.
      seconds: how long to wait for the others.
    Raises:
      UsageError: no cluster that jax.distributed knows. ResourceError: the others were not there in time.
    """
    explicit = [] if coordinator is None else [coordinator, str(count), str(index)]
    # the meeting needs no accelerator, and this process may need all of its memory
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-m", "pie_jax.embed.rendezvous", str(seconds), *explicit], env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        return ProcessInfo(**json.loads(lines[-1]))
    if done.returncode == UsageError.exit_code:
        raise UsageError("--distributed: jax.distributed finds no cluster here (Slurm, GKE, Open MPI, TPU pod); use "
                         "--coordinator, --processes and --process, or --share")
    where = f"the coordinator {coordinator}" if coordinator else "the cluster's coordinator"
    raise ResourceError(f"{where}: not all processes met there within {seconds} s; check that process 0 runs, that its "
                        "port is free and can be reached, and that all were started")


def main(argv: list[str]) -> int:
    """The meeting: one line of JSON for this process's Place."""
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # it would answer SIGTERM
    explicit: dict[str, Any] = dict(zip(("coordinator_address", "num_processes", "process_id"),
                                        (argv[1], int(argv[2]), int(argv[3])))) if argv[1:] else {}
    try:
        jax.distributed.initialize(**explicit, initialization_timeout=int(argv[0]))
    except ValueError:  # of what it needs, something is neither given nor known
        return UsageError.exit_code
    place = ProcessInfo(index=jax.process_index(), count=jax.process_count(),
                  visible_devices=jax.config.values["jax_cuda_visible_devices"])
    jax.distributed.shutdown()
    print(json.dumps(dataclasses.asdict(place)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
