"""What a table is like before anything is trained on it: numbers, a page of them, and the rows to leave out."""
