"""Speed and memory side by side with YOLOv5."""
