"""What people look at after a run: results.json, the text on the screen, advice."""
