"""The VAE's arithmetic on single pictures."""
