"""The packs that ship, and the command that lists and checks packs: `python -m pie_jax.packs`."""
