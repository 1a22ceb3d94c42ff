"""The networks of a pack as pure functions of their weights: Flax Linen modules and the layers they share."""
