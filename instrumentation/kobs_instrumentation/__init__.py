"""What kobs knows about the subsystems of Python programs."""
