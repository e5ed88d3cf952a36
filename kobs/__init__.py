"""Know what a Python program really did."""
