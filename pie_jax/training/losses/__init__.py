"""What trainings minimise and how their networks are judged."""
