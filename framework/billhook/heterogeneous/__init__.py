"""Models whose layers differ from one another: the two files that are copied beside weights, and how the family's own
class becomes such a model and back. Knows transformers, and nothing else of billhook."""
