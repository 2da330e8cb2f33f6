"""Qwen-Image's family: what it is made of, its transformer over sequences of any lengths, its VAE on pictures."""
