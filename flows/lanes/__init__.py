"""Several lanes: how many and where, what hands shards out to them, and the Ray cluster that they run on."""
