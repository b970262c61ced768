"""Who gets a request: salted buckets and the split."""
