"""What a run hands back, and how it is written: settling, checkpoint, padding, card, verification."""
