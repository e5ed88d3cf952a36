"""What is measured of kobs, of Python, and of the machine."""
