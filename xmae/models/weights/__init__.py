"""Weights shipped with the package; MODEL_CARD.md says where they come from."""
