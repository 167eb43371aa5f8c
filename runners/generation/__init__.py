"""What every generating engine shares: tokens to text, stop strings, sampling, slots, the loop."""
