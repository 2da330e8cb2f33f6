"""What a person or a schedule starts: the flows, the job's road through the steps, and the command line."""
