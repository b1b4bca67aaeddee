"""TensorRT and TensorRT-RTX: engines built, looked into and run."""
