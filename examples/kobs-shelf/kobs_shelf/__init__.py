"""A subsystem of one's own for kobs: `shelf`, with its event, its vocabulary and its watch."""
