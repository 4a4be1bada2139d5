"""One module per paper: its questions, its prompts, its read-out."""
