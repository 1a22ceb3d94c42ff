"""Edits against the truth; run as `python -m benchmarks.quality` (see `__main__`)."""
