"""Everything that ranks without a language model."""
