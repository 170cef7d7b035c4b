"""Comparing cuts by an objective without computing anything twice."""
