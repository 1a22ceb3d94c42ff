"""Converters: public checkpoints of a pack's parts, read without running anything in them, written into a pack.

`python -m converters.<kind> FILE --pack DIR`. `readers` reads files, `table` accounts for every tensor, and one module
a kind maps names and layouts. Nothing here needs PyTorch, TensorFlow or the repositories the files come from.
"""
