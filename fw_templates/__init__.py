"""Everything a user may edit: campaigns to start from, Firework skeletons, worker and queue files."""
