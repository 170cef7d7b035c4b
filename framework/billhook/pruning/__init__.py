"""The Pruner: the loop, the run's papers, what is refused before any work, and doing a plan again."""
