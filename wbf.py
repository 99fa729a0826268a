"""YOLOAir's script that fuses the boxes of several models."""

if __name__ == "__main__":
    raise SystemExit("error: wbf.py is not supported: use python val.py --weights a.pt b.pt --nms wbf, or detect.py with the same flags")
