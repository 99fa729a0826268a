"""Label formats, one a file, and what each reader reports."""
