"""YOLOAir's script of exporting."""

if __name__ == "__main__":
    raise SystemExit("error: tools/export.py is not supported: use python export.py with the same flags")
