"""From sources to detections to what is written of them."""
