"""Files: atomic writes, and safe reading of untrusted ones."""
