"""Units of memory and files."""

GIB = 2**30  # bytes
