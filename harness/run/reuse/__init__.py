"""Reuse of outcomes: a cell of another release that can only end in the same way is not run again."""
