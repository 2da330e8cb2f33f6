"""Source pictures of strangers: fetched, and decoded in a process that may fail."""
