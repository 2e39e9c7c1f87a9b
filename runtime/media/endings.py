"""The endings of files that are read as pictures and as clips, and the formats that the libraries may open.

The content of a file decides its format, not its ending. So the lists of formats limit what a library does with an
untrusted file. They leave out formats that run programs (EPS, PDF), formats that name other files or addresses
(playlists), and vector graphics.
"""

__all__ = [
    "CLIP_INPUT_ENDINGS",
    "CONTAINER_FORMATS",
    "FRAME_ENDINGS",
    "PICTURE_FORMATS",
    "PICTURE_INPUT_ENDINGS",
]

PICTURE_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "DIB", "AVIF", "GIF", "PPM", "TGA", "JPEG2000", "QOI")
"""Picture formats that may be opened, by Pillow's names."""

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
"""The endings of pictures that may be frames of a clip."""

CONTAINER_FORMATS = "mov,mp4,matroska,webm,gif,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,mxf,yuv4mpegpipe"
"""Clip formats that may be opened: FFmpeg's names of demuxers, joined by commas."""

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
"""The endings of clips. `.gif` is a clip for video models and a picture for image models."""
