"""A photograph: found, framed, fitted, moved, relit, and put back where it came from."""
