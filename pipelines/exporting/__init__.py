"""A bundle as one ONNX file, from pixels to answer, compared with the bundle before it is left."""
