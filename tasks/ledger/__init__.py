"""Plans, and what the runs that follow them write down."""
