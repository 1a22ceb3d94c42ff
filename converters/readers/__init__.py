"""Reads checkpoints of every public container without running anything that is in them.

    checkpoint = read("stylegan2-ffhq-config-f.pkl")      # PackError where the file is damaged, hostile or unknown
    checkpoint.format                                      # one of FORMATS
    checkpoint.tree                                        # dict, list, Node, numpy arrays, numbers, strings
    checkpoint.state_dict(prefix="g_ema")                  # {"conv1.weight": array, ...}, every array finite

A pickle is interpreted by a small machine of our own (`machine`), which builds arrays and plain containers and can call
nothing: a name that is not on the list (`names`) is refused, and names on the list are never looked up either. Sizes
that a file declares are compared with what it can hold before memory is taken; nothing is unpacked to disk. Arrays
are views of the mapped file where its layout allows, so reading costs little memory.
"""

from converters.readers.checkpoint import Checkpoint, Node, state_dict
from converters.readers.open import FORMATS, read

__all__ = ["FORMATS", "Checkpoint", "Node", "read", "state_dict"]
