"""The commands: a file for those of one noun, what they share, and how they end."""
