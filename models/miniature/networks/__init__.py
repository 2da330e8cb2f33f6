"""The miniature's networks and tokenizers."""
