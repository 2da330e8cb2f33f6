"""The marks that say that a model made a picture."""
