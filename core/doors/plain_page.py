"""A page of ours outside of Streamlit: no script, and nothing from elsewhere."""

from __future__ import annotations


def page(title: str, body: str, *, style: str, more: str = "") -> str:
    """The whole document; `more` goes into its head. All of it is HTML: what others wrote was escaped before."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>{more}
</head>
<body>
<main>{body}</main>
</body>
</html>
"""
