"""Sources in, detections out, and the files written of them."""
