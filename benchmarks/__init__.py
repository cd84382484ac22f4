"""Speed, memory and scaling: `python -m benchmarks.NAME`."""
