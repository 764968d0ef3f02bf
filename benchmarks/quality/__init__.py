"""How good a model gets in a stated time: ``python -m benchmarks.quality`` writes docs/quality.md."""
