"""What fits: memory and time, measured, and the batches and placements that follow."""
