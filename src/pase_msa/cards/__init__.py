"""Model cards: what a saved model is, what it was trained and tested on, and what it must not be used for."""
