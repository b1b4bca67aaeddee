"""Half precision: casts to 16 bits, the range analysis that guards them, and the verification on samples."""
