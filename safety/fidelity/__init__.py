"""Whether an edited picture still shows the same product, and whether what was asked for is there."""
