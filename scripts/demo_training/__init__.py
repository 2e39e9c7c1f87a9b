"""The training of LatentRT's demo models: data, the two models, and the training loop (see ../train_demo)."""
