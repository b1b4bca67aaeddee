"""ONNX files: read, written, walked, upgraded."""
