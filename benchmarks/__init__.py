"""Speed, size and scale, measured: `python -m benchmarks.speed` and its neighbours; README.md holds the figures."""
