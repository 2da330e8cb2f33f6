"""A run under Prefect: its settings and server, how the run begins and ends there, and what is told of it."""
