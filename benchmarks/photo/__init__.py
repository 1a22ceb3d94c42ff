"""Edits of photographs against the truth; run as `python -m benchmarks.photo` (see `__main__`)."""
