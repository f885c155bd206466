"""Why signing in with an account kept elsewhere comes to nothing, in words. One line for each way."""

from __future__ import annotations

from core.desk.explain import Explanation

PERSON, ADMIN, PROVIDER = "Who signs in", "Admin", "Provider"

_E = Explanation

SIGN_INS: dict[str, Explanation] = {
    "not_begun_here": _E(
        "This sign-in was begun in another browser or more than ten minutes ago, or it was used already",
        PERSON,
        "Begin again from the form, in one tab, with cookies allowed",
    ),
    "cancelled": _E(
        "The provider says that the sign-in was cancelled there, or that this account may not use the console",
        PERSON,
        "Begin again; if you did not cancel it, ask whoever looks after accounts there",
    ),
    "provider_refused": _E(
        "The provider refused to begin the sign-in",
        ADMIN,
        "Compare the client and its redirect URI at the provider with the settings; the console's log has its reason",
    ),
    "provider_away": _E(
        "The provider cannot be reached, or answers with an error of its own",
        PROVIDER,
        "Try again in a minute. Whoever has a password here signs in with it meanwhile",
    ),
    "odd_answer": _E(
        "What the provider answers cannot be used: it is not OpenID Connect, or of another issuer",
        ADMIN,
        "Compare CAPI_OIDC_ISSUER with `issuer` at /.well-known/openid-configuration there; the console's log says why",
    ),
    "code_refused": _E(
        "The provider does not take back the code that it gave, or does not know this console",
        ADMIN,
        "Begin again; if it stays, compare CAPI_OIDC_CLIENT_ID and CAPI_OIDC_CLIENT_SECRET with the provider",
    ),
    "not_proven": _E(
        "What the provider sent does not prove who you are: not signed by it, not for this console, or not for now",
        ADMIN,
        "Begin again; if it stays, compare the server's clock, CAPI_OIDC_ISSUER and CAPI_OIDC_CLIENT_ID",
    ),
    "no_address": _E(
        "The provider does not say that it has verified your e-mail address, or says none",
        PROVIDER,
        "Verify the address there; an admin lets the provider send `email` and `email_verified` to this console",
    ),
    "no_operator": _E(
        "The provider knows you, and this console lets nobody in by your address",
        ADMIN,
        "An admin of this console adds you, with `capi-console operator add ADDRESS --role support --no-password` on"
        " the server",
    ),
    "busy": _E(
        "Too many people sign in just now",
        PERSON,
        "Try again in a few seconds",
    ),
}
