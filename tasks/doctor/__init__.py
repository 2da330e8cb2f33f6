"""Checks of what a run needs beside its models."""
