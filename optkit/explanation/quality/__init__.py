"""Where the quality goes: layer errors, sensitivity, causes, remedies."""
