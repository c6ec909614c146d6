"""Models on an embedding: linear heads, hand-made features for comparison, fine-tuning."""
