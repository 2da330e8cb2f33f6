"""Runs: prepared, taken through a lane, and finished."""
