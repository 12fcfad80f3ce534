"""The fault matrix: downloaders against a misbehaving server, and what then lies under the final name."""
