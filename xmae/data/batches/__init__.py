"""From a store to the batches that training sees: loading, augmentation, order."""
