"""Benchmarks: rate-distortion measurements on real files."""
