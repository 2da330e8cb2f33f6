"""Edit: source pictures and instructions in, pictures of the same products out."""
