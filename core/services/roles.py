"""Who is at the console or the shell, and what each role may order."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import Forbidden

# Each role may do what the ones before it may.
ROLES = ("viewer", "support", "admin")

# order → the least role that may give it
NEEDS = {
    "change_password": "viewer",
    "refresh_tokens": "support",
    "retry_events": "support",
    "cancel_job": "support",
    "pause_job": "support",
    "resume_job": "support",
    "diagnose": "support",
    "make_link": "support",
    "accept_other_user": "support",
    "test_alerts": "support",
    "set_token": "admin",
    "add_operator": "admin",
    "set_operator_role": "admin",
    "set_operator_password": "admin",
    "disable_operator": "admin",
    "enable_operator": "admin",
    "rotate_keys": "admin",
    "add_app": "admin",
    "set_app": "admin",
    "add_api_key": "admin",
    "revoke_api_key": "admin",
}


@dataclass(frozen=True, slots=True)
class Operator:
    """The person who looks and orders; `name` goes into the audit trail."""

    name: str
    role: str

    def may(self, order: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(NEEDS[order])

    def why_not(self, order: str) -> str | None:
        """What to say beside a button that this role may not press."""
        return None if self.may(order) else f"Needs the role {NEEDS[order]}; yours is {self.role}."

    def must(self, order: str) -> None:
        """Forbidden unless this role may give the order."""
        if not self.may(order):
            raise Forbidden(f"{order.replace('_', ' ')} needs the role {NEEDS[order]}; {self.name} is {self.role}")
