"""Exported models run by their own runtimes: one file a format, and one class that behaves like a detector."""
