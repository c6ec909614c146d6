"""Training: batches, the Lightning module and fit, and the pretrain verb."""
