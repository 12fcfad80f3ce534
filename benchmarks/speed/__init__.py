"""Ours and the peers at the same work, side by side."""
