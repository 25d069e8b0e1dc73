"""Trained steppers as files for other programs: C, Fortran, REBOUND, ONNX, safetensors."""
