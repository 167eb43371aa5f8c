"""ONNX Runtime: sessions, saved graphs, bound inputs and outputs."""
