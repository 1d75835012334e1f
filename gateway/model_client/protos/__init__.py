"""TensorFlow Serving's messages, as few as the gateway needs, in a package of our own."""
