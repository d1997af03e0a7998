"""A pytest plugin (-p tests.v1_behavior): the tests run as programs whose first line is tf.disable_v2_behavior()."""

import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
