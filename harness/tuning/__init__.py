"""Making models: fine-tuning by a paper's recipe, and small ones from nothing."""
