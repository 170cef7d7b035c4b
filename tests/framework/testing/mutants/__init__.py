"""Wrong strategies, one file a role: each small, with the law that must catch it."""
