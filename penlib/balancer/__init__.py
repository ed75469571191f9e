"""The moving parts of pen: what happens between accept and close, and how it is steered."""
