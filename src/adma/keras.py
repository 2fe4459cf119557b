"""The losses as keras.losses.Loss, on every backend of Keras."""
