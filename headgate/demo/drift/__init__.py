"""The demo's second story: the world moves, drift is found, and a version trained by itself is released or taken back."""
