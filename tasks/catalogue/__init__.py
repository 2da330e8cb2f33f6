"""The catalogue, and what is put into it: outcomes, decisions, withdrawals."""
