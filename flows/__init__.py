"""What a person or a schedule starts: the flows, the steps that they run, and the command line."""
