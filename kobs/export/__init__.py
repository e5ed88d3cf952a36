"""Recordings and live events in other formats and places."""
