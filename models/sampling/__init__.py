"""From noise and prompts to pixels."""
