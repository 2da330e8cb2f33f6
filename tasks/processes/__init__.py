"""Processes: children that end with their parent, editors of a store, and the wish to stop."""
