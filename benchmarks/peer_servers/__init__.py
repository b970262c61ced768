"""The tiny definitions that other servers need to serve the same model, run in their own environments."""
