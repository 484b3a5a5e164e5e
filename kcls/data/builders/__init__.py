"""TensorFlow Datasets builders of our own; importing one registers its name."""

EMBEDDED = ("digits",)
"""Names of the data sets that are part of kcls and need no download."""
