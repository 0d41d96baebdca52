"""How files reach the disk: replaced in one step, or appended line by line. Imports nothing of the layers above."""
