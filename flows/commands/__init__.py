"""What commands do at a terminal, and how they end."""
