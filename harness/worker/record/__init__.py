"""Recordings of a step: calls and tensor shapes, and the memory of every tensor."""
