"""YOLOv5's script of segmentation."""

if __name__ == "__main__":
    raise SystemExit("error: segment/predict.py is not supported: there is no segmentation; detect.py finds boxes")
