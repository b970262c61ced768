"""Statistical methods, one a file."""
