"""What people say of the drawn world: names, captions and instructions."""
