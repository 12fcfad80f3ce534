"""What to keep: the only place that touches downloaded files."""
