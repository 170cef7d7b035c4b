"""What the roles promise: laws, each a test of its own, and what tries them."""
