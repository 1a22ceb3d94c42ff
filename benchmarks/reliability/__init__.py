"""The long forms of the reliability suite: one module for a kind of fault, whose machinery the short forms use too."""
