"""Version 1 of the API: one module for each kind of thing, with its request and response models."""
