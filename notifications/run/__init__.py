"""One run, in the protocol's order: the tick, its shards, their users, their pushes."""
