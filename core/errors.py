"""The errors of the house.

CoreError
├── SettingsError      a setting is missing, unknown or malformed (exit code 2)
├── StoreError         the database cannot be used as it is
│   ├── SchemaError    a table or column is not what we need
│   └── Conflict       somebody else moved the row first
├── NotFound           there is no such app, user, event, job
├── Refused            the order is understood and will not be carried out
│   └── Forbidden      the operator's role does not allow it
├── BadInput           a request's body cannot be read or breaks a rule
└── GraphError         Meta refused, or could not be reached (core.meta.graph)

An error carries words for a person, a failure and Meta's trace id at most: never a request,
a response, a payload or a token.
"""

from __future__ import annotations


class CoreError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


class SettingsError(CoreError):
    """A setting is missing or wrong."""


class StoreError(CoreError):
    """The database cannot be used."""


class SchemaError(StoreError):
    """The database lacks a table or column that is needed."""


class Conflict(StoreError):
    """Somebody else moved this row first."""


class NotFound(CoreError):
    """There is no such thing."""


class Refused(CoreError):
    """This order is not carried out."""


class Forbidden(Refused):
    """Your role does not allow this."""


class BadInput(CoreError):
    """The input cannot be used."""
