"""Why a model says what it says of a text: a weight for each of its words, by one of several methods."""
