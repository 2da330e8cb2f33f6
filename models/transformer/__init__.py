"""The transformer's arithmetic: packed sequences, fused operations, streamed weights."""
