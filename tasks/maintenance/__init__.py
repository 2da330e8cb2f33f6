"""What keeps a store in order: pruned, and rebuilt where its catalogue was lost."""
