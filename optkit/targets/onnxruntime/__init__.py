"""ONNX Runtime: sessions on its execution providers, and their traces."""
