"""The built-in estimators: one file each, registered by its own hook."""
