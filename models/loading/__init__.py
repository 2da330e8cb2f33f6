"""From files to modules on their devices."""
