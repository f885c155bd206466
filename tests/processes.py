"""Real processes of the product, started and ended by tests: those of the drills."""

from core.drills.processes import (
    HOME,
    Process,
    end_in_order,
    environment,
    eventually,
    free_port,
    is_ready,
    running,
)

ROOT = HOME

__all__ = ["ROOT", "Process", "end_in_order", "environment", "eventually", "free_port", "is_ready", "running"]
