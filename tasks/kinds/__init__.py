"""The kinds of job: what sets each apart from the others, a folder a kind, and the registry of them."""
