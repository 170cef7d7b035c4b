"""The mathematics: linear maps, the sums that determine them, fast products, elimination. No model in sight."""
