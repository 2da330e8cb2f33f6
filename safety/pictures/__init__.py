"""What can be measured of a picture, and what a marketplace demands of it."""
