"""Benchmarks: each a command that prints a table, ends stdout with one JSON object and writes JSONL rows."""
