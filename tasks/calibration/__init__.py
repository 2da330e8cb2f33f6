"""Labelled examples in, thresholds or a probe for a policy out; and what a policy says of one example."""
