"""Manifests: their files, columns and rows, and the keys of rows."""
