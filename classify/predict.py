"""YOLOv5's script of classification."""

if __name__ == "__main__":
    raise SystemExit("error: classify/predict.py is not supported: there is no classification; detect.py is for detection")
