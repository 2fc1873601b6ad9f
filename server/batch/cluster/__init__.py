"""A data set scored by many processes: cut into shards, each written once, over a cluster of Ray."""
