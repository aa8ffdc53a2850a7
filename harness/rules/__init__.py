"""Compares outcomes with what was expected of them."""
