"""Checkpoints: found, pinned, whole. Nothing in this room imports torch."""
