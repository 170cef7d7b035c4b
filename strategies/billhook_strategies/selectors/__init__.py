"""The built-in selectors: one file each, registered by its own hook."""
