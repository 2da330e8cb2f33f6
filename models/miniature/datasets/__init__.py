"""The training sets: drawings, edits and phrases, drawn once and kept on disk."""
