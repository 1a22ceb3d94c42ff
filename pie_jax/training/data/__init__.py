"""What trainings read: sets rendered by the studio, pairs of the demo family, codes of a generator, augmentation."""
