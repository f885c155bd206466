"""A Graph API stand-in and a small shop, over real HTTP, for trying, drills and tests."""
