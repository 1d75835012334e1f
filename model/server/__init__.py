"""A model server that speaks TensorFlow Serving's protocols on TensorFlow's own runtime.

Started by `python -m model.server`, with the flags of `tensorflow_model_server`.
"""
