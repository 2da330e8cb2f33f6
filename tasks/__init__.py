"""The steps of a run, and the stores and manifests that they work on."""
