"""Layer 4: delivery, refresh and the other work that goes on by itself."""
