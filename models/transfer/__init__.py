"""Checkpoints on their way from a hub or a bucket to a disk."""
