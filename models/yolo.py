"""YOLOv5's script that prints a model's table."""

if __name__ == "__main__":
    raise SystemExit("error: models/yolo.py is not supported: use python -m models.show yolov5s, with --cost for times")
