"""Results as they are stored: masters, publications, encodings and marks."""
