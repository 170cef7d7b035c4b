"""The built-in adapters: one file for each way of building a layer, registered by its own hook."""
