"""YOLOv5's script of segmentation."""

if __name__ == "__main__":
    raise SystemExit("error: segment/train.py is not supported: there is no segmentation; train.py reads polygons as boxes")
