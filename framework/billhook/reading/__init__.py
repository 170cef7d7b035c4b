"""What lies on disk, as it is found: configs, weights, GGUF files, tokenizers. Judges them before and after
transformers reads them, and turns whatever a reader raises into one line."""
