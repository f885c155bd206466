"""Drills: the product's own processes on a scratch database, killed, refused and flooded, and then reckoned with."""
