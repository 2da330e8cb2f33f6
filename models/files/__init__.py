"""Files on disk, and what their headers say. Nothing in this room imports torch."""
