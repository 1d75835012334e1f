"""The only place that speaks to TensorFlow Serving."""
