"""What a run takes, before it is run: arithmetic alone. The stages count what it took."""
