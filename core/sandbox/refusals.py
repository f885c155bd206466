"""How the stand-in says no: Meta's error object, with the numbers and words Meta uses.

https://developers.facebook.com/docs/graph-api/guides/error-handling
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Refusal:
    code: int
    message: str
    subcode: int | None = None
    status: int = 400
    kind: str = "OAuthException"
    title: str | None = None
    transient: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"message": self.message, "type": self.kind, "code": self.code}
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        if self.transient:
            error["is_transient"] = True
        if self.title:
            error |= {"error_user_title": self.title, "error_user_msg": self.message}
        return {"error": error | {"fbtrace_id": trace_id()}}


def trace_id() -> str:
    return "A" + secrets.token_urlsafe(16)


# What Meta writes for a token that is over before its time.
DEATHS: Final = {
    452: "Session does not match current stored session. This may be because the user changed the password since the"
    " time the session was created or Facebook has changed the session for security reasons.",
    458: "The user has not authorized application.",
    459: "You cannot access the app till you log in to www.facebook.com and follow the instructions given.",
    460: "The session has been invalidated because the user changed the password.",
    464: "Sessions for the user are not allowed because the user is not a confirmed user.",
    465: "Sessions for the user are not allowed.",
    467: "The session is invalid because the user logged out.",
    492: "The user must be an administrator, editor, or moderator of the page in order to impersonate it.",
}

NO_TOKEN: Final = Refusal(2500, "An active access token must be used to query information about the current user.")
UNKNOWN_TOKEN: Final = Refusal(190, "Invalid OAuth access token - Cannot parse access token")
BAD_APP_TOKEN: Final = Refusal(190, "Invalid OAuth access token signature.")
OTHER_APP: Final = Refusal(100, "(#100) The App_id in the input_token did not match the Viewing App")
BAD_SECRET: Final = Refusal(1, "Error validating client secret.")
BAD_APP: Final = Refusal(101, "Error validating application. Cannot get application info due to a system error.")
BAD_PROOF: Final = Refusal(100, "Invalid appsecret_proof provided in the API argument", kind="GraphMethodException")
NO_PROOF: Final = Refusal(
    100, "API calls from the server require an appsecret_proof argument", kind="GraphMethodException"
)
NO_SCOPE: Final = Refusal(200, "(#200) Requires ads_management permission", status=403)


def expired(ended: str, current: str) -> Refusal:
    message = f"Error validating access token: Session has expired on {ended}. The current time is {current}."
    return Refusal(190, message, 463)


def dead(subcode: int) -> Refusal:
    words = DEATHS.get(subcode, "The session is invalid.")
    return Refusal(190, f"Error validating access token: {words}", subcode)


def no_pixel(pixel: str) -> Refusal:
    message = (
        f"Unsupported post request. Object with ID '{pixel}' does not exist, cannot be loaded due to missing"
        " permissions, or does not support this operation."
    )
    return Refusal(100, message, 33, kind="GraphMethodException")


def invalid(message: str, subcode: int | None = None, title: str | None = None) -> Refusal:
    return Refusal(100, message, subcode, title=title)
