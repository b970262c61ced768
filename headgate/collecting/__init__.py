"""From the prediction log to a day's sums and figures: read once a day, kept, and all that judgements look at."""
