"""Where a detector looks: LayerCAM and attention maps."""
