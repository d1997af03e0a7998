"""Encoded images -> RGB pixels, byte for byte as TensorFlow's decode_jpeg makes them: JPEG, PNG, and GIF of one frame.

Each format's file takes a picture apart as far as its pixels need, so that what else a file holds (texts, profiles,
thumbnails, films) costs nothing, and Pillow decodes what is left.
"""
