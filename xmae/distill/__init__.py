"""Distillation of a pretrained encoder into a student for the watch."""
