"""Rows of each kind of job: read, checked and keyed, with the pictures that they are made from."""
