"""PyTorch files: archives and pickles read as data, modules loaded, exported and saved."""
