"""Trainings: one command each, `python -m pie_jax.training.X --pack DIR`, for any pack.

Every training runs through `loop.run`, keeps its checkpoint and its log in a run folder, goes on where it
stopped, and writes one part of the pack together with the record of how it was made.
"""
