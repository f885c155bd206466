"""Layer 6: the ways in: endpoint, worker, command line, console."""
