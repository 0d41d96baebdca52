"""One training step: pure, differentiated, regularized, and compiled for every device."""
