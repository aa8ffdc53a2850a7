"""Weights, config, tokens and features against each other, as the release loads them."""
