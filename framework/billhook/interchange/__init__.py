"""Other people's files: published results, read and written."""
