"""YOLOv5's script that validates a model in each export format."""

if __name__ == "__main__":
    raise SystemExit("error: benchmarks.py is not supported: use python -m benchmarks.formats --weights yolov5n.pt --data coco128.yaml")
