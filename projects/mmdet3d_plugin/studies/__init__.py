"""Programs that look at models or compare several: cost, speed, gain, pictures, the demo."""
