"""Small Arm Linux systems under qemu-user."""
