"""The optimizer: Optax transforms, learning rate schedules, weight averaging, frozen parameters."""
