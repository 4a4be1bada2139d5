"""The gate for new checkpoints: a policy, the evidence of two sides, a decision for each check, reports of them."""
