"""Hooks, the registry of what plugins offer, and the options of strategies as data."""
