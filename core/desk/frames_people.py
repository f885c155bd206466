"""Operators and the audit trail as tables for the screen."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from core.desk.audit_trail import AuditRow
from core.desk.frames import frame_of, said
from core.desk.people import OperatorRow


def operators(rows: Sequence[OperatorRow]) -> pd.DataFrame:
    return frame_of(
        "Name, Role, State, Last sign-in, Since",
        ((row.name, row.role, [row.state], row.signed_in_at, row.created_at) for row in rows),
        moments=("Last sign-in", "Since"),
    )


def trail(rows: Sequence[AuditRow]) -> pd.DataFrame:
    return frame_of(
        "When, Who, Action, Object, Rows, Reason, Result, Line",
        (
            (row.at, row.by, said(row.action), row.subject, row.count, row.reason or "", row.result, row.id)
            for row in rows
        ),
        moments=("When",),
        numbers=("Rows", "Line"),
    )
