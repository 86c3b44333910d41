"""ONNX files as differentiable PyTorch modules, checked against onnxruntime when they are loaded.

No kept library covers what face swappers are made of: the converters there are lack GridSample and
the reductions, resizing, padding and splitting of opset 18.
"""
