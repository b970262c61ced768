"""The data plane: the HTTP server that answers predictions."""
