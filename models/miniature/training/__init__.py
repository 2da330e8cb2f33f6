"""The stages of training, and how well each has learned."""
