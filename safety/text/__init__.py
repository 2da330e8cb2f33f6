"""Texts as they are read, and the lists of what they may not say."""
