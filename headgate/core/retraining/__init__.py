"""When a model is trained again, what stands in the way, and how a retraining may move. Pure."""
