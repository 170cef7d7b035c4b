"""Running single layers: the cache under a byte budget, the runner, and the flow of the dense model's streams."""
