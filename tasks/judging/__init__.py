"""The judges of a run: its policy, CLIP and profiles."""
