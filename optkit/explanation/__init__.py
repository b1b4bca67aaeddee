"""Explanations of a model's speed and of its loss in quality: causes, remedies, and commands to try."""
