"""The network: a few separable convolutions, small enough to answer in milliseconds on one core."""

import keras
from keras import layers

INPUT_SHAPE = (299, 299, 3)
WIDTHS = (32, 64, 96, 128)
FINAL_WIDTH = 192
MOMENTUM = 0.9


def build(classes: int) -> keras.Model:
    """An untrained model from float32 pictures (n, 299, 299, 3) in [-1, 1] to logits (n, classes).

    Each of four blocks halves the picture; the last features are averaged
    over the 10 x 10 that are left.
    """
    picture = layers.Input(INPUT_SHAPE, name="picture")
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(picture)
    x = layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(x))
    for width in WIDTHS:
        x = _separable(x, width, strides=2)
    x = layers.Add()([x, _separable(x, WIDTHS[-1], strides=1)])
    x = _separable(x, FINAL_WIDTH, strides=1)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    logits = layers.Dense(classes, name="logits")(x)
    return keras.Model(picture, logits, name="clothing")


def _separable(x: keras.KerasTensor, width: int, strides: int) -> keras.KerasTensor:
    """Depthwise 3 x 3, then pointwise, each normalized."""
    x = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=MOMENTUM)(x)
    x = layers.Conv2D(width, 1, use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(x))
