"""The stages that shards go through on one device, and what passes between them."""
