"""From utterances to tensors: features, augmentation, words, speakers, folds."""
