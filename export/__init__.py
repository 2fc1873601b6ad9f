"""Export: from a trained model to ONNX without losing a bit, with a parity report."""
