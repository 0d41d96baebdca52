"""The optimizer: Optax transforms, learning rate schedules, averaged weights, which parameters are trained."""
