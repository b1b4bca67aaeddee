"""PyTorch: modules run as they are or compiled."""
