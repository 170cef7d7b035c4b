"""The built-in selectors, estimators, mergers and objectives: one file each, registered by its own hook."""
