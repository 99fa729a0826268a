"""A model's specification: YAML, or the edits of a base, to rows."""
