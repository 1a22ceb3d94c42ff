"""Commands that measure a trained pack and set its numbers: `python -m pie_jax.tuning.pool|balance|calibrate`."""
