"""The drawn world: products, what surrounds them, and edits of them."""
