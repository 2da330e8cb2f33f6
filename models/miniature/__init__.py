"""The miniature: tiny models of the same architectures, how they are trained, and their weights."""
