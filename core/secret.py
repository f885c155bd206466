"""A secret value that can be carried about but not shown."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, NoReturn

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from core.errors import CoreError


class SecretLeak(CoreError, TypeError):
    """A secret cannot be pickled, copied out or made JSON."""


class Secret:
    """A token or an app secret: prints as its fingerprint, compares in constant time.

    `reveal()` is called in four files only: the column that stores tokens (`core/store/sealing.py`), the client
    that sends them (`core/meta/graph.py`) and those that hand on alert addresses (`core/services/channels.py`) and
    the client secret of sign-in (`core/services/oidc.py`); a test reads the source to keep it so. HMAC keys go
    through `sign`.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not value:
            raise ValueError("a secret cannot be empty")
        self._value = value

    @property
    def fingerprint(self) -> str:
        """The name that may be shown: `fp_` and the first 16 hex digits of SHA-256."""
        return "fp_" + hashlib.sha256(self._value.encode()).hexdigest()[:16]

    def reveal(self) -> str:
        return self._value

    def sign(self, message: bytes) -> bytes:
        """HMAC-SHA256 of `message` with this secret as key (32 bytes)."""
        return hmac.digest(self._value.encode(), message, "sha256")

    def inside(self, text: str) -> bool:
        """Whether the plain value stands in `text` (for redaction)."""
        return self._value in text

    def strike(self, text: str) -> str:
        """`text` with every plain occurrence replaced by the fingerprint."""
        return text.replace(self._value, self.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"Secret({self.fingerprint})"

    def __str__(self) -> str:
        return self.fingerprint

    def __format__(self, spec: str) -> str:
        return format(self.fingerprint, spec)

    def __reduce__(self) -> NoReturn:
        raise SecretLeak()

    def __getstate__(self) -> NoReturn:
        raise SecretLeak()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from_text = core_schema.no_info_after_validator_function(cls, core_schema.str_schema(min_length=1))
        return core_schema.union_schema(
            [core_schema.is_instance_schema(cls), from_text],
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )
