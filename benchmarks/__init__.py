"""Commands that print speeds, peaks and scores, as ratios to known tools. See README.md."""
