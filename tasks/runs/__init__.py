"""Runs: prepared, and finished."""
