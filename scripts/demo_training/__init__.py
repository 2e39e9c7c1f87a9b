"""How the demo models of LatentRT were trained: data, the two models, the training loop (see ../train_demo)."""
