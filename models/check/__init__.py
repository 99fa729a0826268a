"""What holds for every module that is plugged in: ``python -m models.check my_block.py``."""
