"""Benchmark and evaluation harness for language models that recommend."""

__version__ = "0.1.0"
