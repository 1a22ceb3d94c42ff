"""How many portraits of a batch go through one program at once: memory grows with that number, not with the batch."""

from __future__ import annotations

import math

from pie_jax.config import GeneratorConfig

_PIXELS = 4 * 256**2  # that a CPU paints at once; more gain no time


def micro_batch_of(batch: int, *, generator: GeneratorConfig, platform: str, asked: int | None = None) -> int:
    """Portraits in one program, 1 to `batch`: about as many in each of the fewest programs that have at most `asked`.

    asked: by default so many as gain time, by the generator's pixels, on a CPU; elsewhere the whole batch.
    ValueError: less than 1.
    """
    if asked is not None and asked < 1:
        raise ValueError(f"micro_batch: expected 1 or more, got {asked}")
    if asked is None:
        asked = max(_PIXELS // generator.resolution**2, 1) if platform == "cpu" else batch
    return math.ceil(batch / math.ceil(batch / asked))
