"""The built-in mergers: one file each, registered by its own hook."""
