"""Several modalities together, and DREAMER."""
