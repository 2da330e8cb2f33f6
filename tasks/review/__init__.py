"""What people decide of rows that wait for them."""
