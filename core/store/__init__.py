"""Layer 3: the tables, and the keepers: one writer per table."""
