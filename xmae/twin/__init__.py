"""The twin: generated people with a heart, a pulse and a sensor, whose every beat is known."""
