"""Layer 5: what a person may see (queries) and order (commands)."""
