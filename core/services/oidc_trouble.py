"""Why a sign-in with an account kept elsewhere comes to nothing."""

from __future__ import annotations

import re
from typing import Final

from core.errors import Refused

_CODE: Final = re.compile(r"[a-z_]{1,40}")


class OidcTrouble(Refused):
    """Nobody was signed in"""

    def __init__(self, word: str, detail: str = "") -> None:
        """`word`: a line of `core.desk.explain_sign_in`; `detail`: for the log, nothing of a person or a secret."""
        super().__init__()
        self.word, self.detail = word, detail


def code_of(said: object) -> str:
    """The protocol's code for what is wrong, ready for the log; anything else that was said is not repeated."""
    return said if isinstance(said, str) and _CODE.fullmatch(said) else "no code"
