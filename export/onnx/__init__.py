"""ONNX files of other converters."""
