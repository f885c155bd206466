"""Layer 4: what shops send, turned into events or into a reason why not."""
