"""Rows of any kind of job: the pictures that they are made from, and what is surely right of them."""
