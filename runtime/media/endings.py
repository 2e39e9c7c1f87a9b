"""The endings of files that are read as pictures and as clips, and the formats that may be opened for them.

A file's content decides its format, so these lists also bound what a file with another format's name may make the
libraries do. They leave out formats that run programs (EPS, PDF), that name other files or addresses (playlists), and
that hold no picture of pixels.
"""

__all__ = [
    "CLIP_INPUT_ENDINGS",
    "CONTAINER_FORMATS",
    "FRAME_ENDINGS",
    "PICTURE_FORMATS",
    "PICTURE_INPUT_ENDINGS",
]

PICTURE_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "DIB", "AVIF", "GIF", "PPM", "TGA", "JPEG2000", "QOI")
"""Pillow's names."""

PICTURE_INPUT_ENDINGS = (
    ".png",
    ".apng",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".mpo",
    ".webp",
    ".tif",
    ".tiff",
    ".bmp",
    ".dib",
    ".avif",
    ".gif",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
    ".tga",
    ".jp2",
    ".j2k",
    ".jpx",
    ".qoi",
)

FRAME_ENDINGS = tuple(ending for ending in PICTURE_INPUT_ENDINGS if ending != ".gif")
"""Of pictures that may be the frames of a clip."""

CONTAINER_FORMATS = "mov,mp4,matroska,webm,gif,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,mxf,yuv4mpegpipe"
"""FFmpeg's names of demuxers, joined by commas."""

CLIP_INPUT_ENDINGS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".qt",
    ".mkv",
    ".webm",
    ".gif",
    ".avi",
    ".mpg",
    ".mpeg",
    ".vob",
    ".m1v",
    ".m2v",
    ".ts",
    ".mts",
    ".m2ts",
    ".wmv",
    ".asf",
    ".flv",
    ".f4v",
    ".3gp",
    ".3g2",
    ".ogv",
    ".ogg",
    ".mxf",
    ".y4m",
)
"""`.gif` is a clip for video models, and a picture for image models."""
