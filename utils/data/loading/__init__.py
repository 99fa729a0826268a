"""The dataloader: from an index to batches."""
