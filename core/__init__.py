"""capi-console: Conversions API events keep flowing while access tokens expire."""

__version__ = "0.1.0"
