"""Measuring models: perplexity, tasks and their accuracy, and the loss that objectives share."""
