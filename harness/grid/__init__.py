"""Many evaluations as one table: shots, seeds, adapters and models, each base model loaded once."""
