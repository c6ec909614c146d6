"""The C target: source, layers and kernels of the int8 network."""
