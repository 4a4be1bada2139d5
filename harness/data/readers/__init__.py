"""One module per file format. Each has `read(folder)`, which takes official files by their official names."""
