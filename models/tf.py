"""YOLOv5's script of TensorFlow models."""

if __name__ == "__main__":
    raise SystemExit("error: models/tf.py is not supported: TensorFlow formats are not written; export to ONNX and convert that")
