"""The HTTP door: a picture in, the model's scores out. No TensorFlow in here."""
