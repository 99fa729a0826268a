"""Weights: from a file, of YOLOv5, and from one model to another."""
