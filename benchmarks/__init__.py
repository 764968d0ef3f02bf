"""Benchmarks: they compare fastrnn's backends with each other and with other libraries."""
