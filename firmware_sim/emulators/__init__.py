"""Processors, emulated: Unicorn, QEMU, TensorFlow Lite Micro, and what they count."""
