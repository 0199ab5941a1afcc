"""Other formats of the same model: ONNX for the edge, with its parity."""
