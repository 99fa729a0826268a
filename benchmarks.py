"""YOLOv5's script that validates a model in each export format."""

if __name__ == "__main__":
    raise SystemExit(
        "error: benchmarks.py is not supported: export.py compares each file with torch and fails where they differ; val.py --weights best.onnx validates one, and --task speed times it"
    )
