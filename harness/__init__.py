"""Compatibility and regression harness for fine-tuning FunASR speech models."""

__version__ = "0.1.0"
