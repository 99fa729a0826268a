"""Images: read, resized, drawn on, written."""
