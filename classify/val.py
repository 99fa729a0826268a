"""YOLOv5's script of classification."""

if __name__ == "__main__":
    raise SystemExit("error: classify/val.py is not supported: there is no classification; val.py is for detection")
