"""Decompose: source pictures in, RGBA layers out."""
