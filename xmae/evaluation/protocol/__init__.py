"""The protocol: tasks, labels, datasets, folds by subject, scores with intervals over subjects."""
