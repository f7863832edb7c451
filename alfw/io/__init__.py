"""Files: frames from and to the formats of others, stacked shards, training sets as NPZ."""
