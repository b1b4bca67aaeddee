"""Samples as a stream: a dataset, its description, its splits, and a source for each kind of file."""
