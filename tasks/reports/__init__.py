"""The summary of a run, and its report."""
