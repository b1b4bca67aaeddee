"""Model files, opened without running them: ONNX, PyTorch, OpenVINO, TensorRT engines, bundles."""
