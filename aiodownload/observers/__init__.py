"""Observers that come with the library."""
