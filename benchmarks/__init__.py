"""Benchmarks: fastrnn's backends beside each other, and beside the libraries that people use instead."""
