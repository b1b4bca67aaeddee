"""OpenVINO: compiled models, and the operators that they execute."""
