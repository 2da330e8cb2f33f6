"""CLIP: texts and pictures in one space."""
