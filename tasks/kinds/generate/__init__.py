"""Generate: prompts in, pictures out, drawn after control pictures where a ControlNet is given."""
