"""Trees compiled for this processor, for many rows: equal bits, or ONNX Runtime scores them."""
