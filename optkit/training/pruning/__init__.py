"""Structured pruning: dependencies between layers, the selection of channels, heads and layers, sparsity masks."""
