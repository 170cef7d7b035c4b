"""Text to tokens: sources, layout, blends, text that the model writes, and what a plan remembers of them."""
