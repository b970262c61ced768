"""The seven risk checks, one a file, all of one shape: evidence and policy in, verdict out."""
