"""Scale: what ten billion URLs would take, computed from what was measured."""
