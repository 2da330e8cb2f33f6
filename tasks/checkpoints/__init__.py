"""Checkpoints wherever a job names them: found, pulled and verified, also in a bucket."""
