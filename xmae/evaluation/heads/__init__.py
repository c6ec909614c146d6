"""What is fitted on an embedding: linear heads, hand-made features beside them, fine-tuning."""
