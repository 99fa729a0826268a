"""YOLOv5's script of validation before release 6."""

if __name__ == "__main__":
    raise SystemExit("error: test.py is not supported: use val.py with the same flags")
