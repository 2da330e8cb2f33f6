"""A lane: one device, and the stages that shards go through on it."""
