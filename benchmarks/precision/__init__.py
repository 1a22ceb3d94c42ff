"""bfloat16 beside float32: what it costs an embedding; run as `python -m benchmarks.precision` (see `__main__`)."""
