"""Write, compile and link the firmware, and set up the small Arm systems that it runs in."""
