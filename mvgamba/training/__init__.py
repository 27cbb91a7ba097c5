"""Training: batches, losses and the loop, for one CPU, one GPU or many."""
