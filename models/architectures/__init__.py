"""Families of picture models: what each is made of, and the arithmetic that is its own."""
