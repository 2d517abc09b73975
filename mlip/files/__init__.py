"""Files, whatever is in them: written whole, appended to, locked, told apart; where mlip keeps its own."""
