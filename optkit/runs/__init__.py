"""Recipes, the store, and carrying them out; run folders written and read back."""
