"""Learning: samples, objectives, the loop, fake quantization, and the parts of a module that can be pruned."""
