"""What a retrained version must show before it may become a challenger. Pure."""
