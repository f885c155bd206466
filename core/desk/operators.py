"""Who is at the console or the shell, and what each role may order, as the desk's commands ask for it.

The table is kept with the services, because a worker asks once more when it begins what was ordered.
"""

from __future__ import annotations

from core.services.roles import NEEDS, ROLES, Operator

__all__ = ["NEEDS", "ROLES", "Operator"]
