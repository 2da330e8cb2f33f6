"""The bulk engines: many rows of one shape, each as if it were alone."""
