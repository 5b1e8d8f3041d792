"""Side-by-side timings: each module runs as ``python -m benchmarks.<name> [--json FILE]`` and prints a table."""
