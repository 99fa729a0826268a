"""YOLOv5's script of classification."""

if __name__ == "__main__":
    raise SystemExit("error: classify/train.py is not supported: there is no classification; train.py is for detection")
