"""The built-in objectives: one file each, registered by its own hook."""
