"""Linear probes of prompts, and how thresholds are chosen and judged."""
