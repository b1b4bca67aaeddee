"""A run as text and pictures, by format."""
