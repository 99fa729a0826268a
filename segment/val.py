"""YOLOv5's script of segmentation."""

if __name__ == "__main__":
    raise SystemExit("error: segment/val.py is not supported: there is no segmentation; val.py reads polygons as boxes")
