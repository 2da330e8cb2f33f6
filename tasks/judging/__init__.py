"""The judges of a run: its policy, classifiers and profiles."""
