"""The policy: what is refused, by which concepts, and why."""
