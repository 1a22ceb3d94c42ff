"""What every part of PIE's energy and schedule is good for; run as `python -m benchmarks.ablation` (see `__main__`)."""
