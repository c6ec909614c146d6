"""The watch, emulated: a bundle's int8 model in the runtimes of microcontrollers."""
