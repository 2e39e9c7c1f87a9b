"""Reading the frames of clips with the right colours, sizes and times, and writing clips.

A clip is a video file, an animated picture, a folder of pictures or an array. Still pictures belong to `pictures`.
Running a clip through a model belongs to `execution`.
"""
