"""Transformers of scikit-learn as operators, for skl2onnx, where it has none or others."""
