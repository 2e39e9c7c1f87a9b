"""What kind of file a file is, by its first bytes: for the messages about files that are not what their names say."""

import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FileKind", "kind_of", "kind_of_bytes", "not_the_wanted_kind"]

_HEAD_BYTES = 1024
_MOST_SAFETENSORS_HEADER = 1 << 30  # bytes


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        name: one word for programs, such as "png", "zip" or "git-lfs".
        text: the kind in plain English with its article, such as "a PNG picture".
        cure: what the user can do about such a file in place of the wanted file. None if there is no general advice.
    """

    name: str
    text: str
    cure: str | None = None


_EMPTY = FileKind("empty", "an empty file", "copy or download it again")
_ZEROS = FileKind("zeros", "a file of zero bytes only", "its download or copy did not finish; fetch it again")
_GIT_LFS = FileKind("git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull` in its repository")
_GIT_ANNEX = FileKind("git-annex", "a git-annex pointer, not the file itself", "run `git annex get` in its repository")
_HTML = FileKind("html", "a web page", "download the file itself; the page may be a login page or an error page")
_XML = FileKind("xml", "an XML text", "if a server sent it in place of the file, download the file again")
_ANSWER = FileKind("answer", "an error message of a server, saved in place of the file", "fetch the file itself")
_SAFETENSORS = FileKind("safetensors", "a safetensors file")
_TORCH_ZIP = FileKind("torch-zip", "a PyTorch archive (a pickle in a zip file)")
_NPZ = FileKind("npz", "a NumPy archive (.npz)")
_ZIP = FileKind("zip", "a zip archive", "extract it")
_PICKLE = FileKind("pickle", "a pickle")
_TAR = FileKind("tar", "a tar archive", "extract it")
_ONNX = FileKind("onnx", "an ONNX model")
_JSON = FileKind("json", "a JSON text")
_TEXT = FileKind("text", "a text file")
_HEIC = FileKind("heic", "a HEIC picture", "convert it to JPEG or PNG")
_AVIF = FileKind("avif", "an AVIF picture")
_WEBP = FileKind("webp", "a WebP picture")
_AVI = FileKind("avi", "an AVI clip")
_MP4 = FileKind("mp4", "an MP4 or MOV clip")
_ENGINE = FileKind("tensorrt", "a TensorRT engine")
_SOUND = FileKind("sound", "a sound file")

_ANSWERS = ("entry not found", "repository not found", "invalid username or pass")
_EXTRACT = "decompress it"
_BY_FIRST_BYTES: tuple[tuple[bytes, FileKind], ...] = (
    (b"\x93NUMPY", FileKind("npy", "a NumPy array (.npy)")),
    (b"\x89PNG\r\n\x1a\n", FileKind("png", "a PNG picture")),
    (b"\xff\xd8\xff", FileKind("jpeg", "a JPEG picture")),
    (b"GIF87a", FileKind("gif", "a GIF picture")),
    (b"GIF89a", FileKind("gif", "a GIF picture")),
    (b"II*\0", FileKind("tiff", "a TIFF picture")),
    (b"MM\0*", FileKind("tiff", "a TIFF picture")),
    (b"II+\0", FileKind("tiff", "a TIFF picture")),
    (b"MM\0+", FileKind("tiff", "a TIFF picture")),
    (b"8BPS", FileKind("psd", "a Photoshop picture", "export it as PNG")),
    (b"v/1\x01", FileKind("exr", "an OpenEXR picture", "convert it to PNG")),
    (b"#?RADIANCE", FileKind("hdr", "a Radiance HDR picture", "convert it to PNG")),
    (b"\xff\x0a", FileKind("jxl", "a JPEG XL picture", "convert it to PNG")),
    (b"\0\0\0\x0cJXL \r\n\x87\n", FileKind("jxl", "a JPEG XL picture", "convert it to PNG")),
    (b"\0\0\0\x0cjP  \r\n\x87\n", FileKind("jp2", "a JPEG 2000 picture")),
    (b"BM", FileKind("bmp", "a BMP picture")),
    (b"qoif", FileKind("qoi", "a QOI picture")),
    (b"\x1a\x45\xdf\xa3", FileKind("matroska", "a Matroska or WebM clip")),
    (b"OggS", FileKind("ogg", "an Ogg file")),
    (b"FLV\x01", FileKind("flv", "an FLV clip")),
    (b"\0\0\x01\xba", FileKind("mpeg", "an MPEG clip")),
    (b"fLaC", _SOUND),
    (b"ID3", _SOUND),
    (b"%PDF-", FileKind("pdf", "a PDF document")),
    (b"\x1f\x8b", FileKind("gzip", "a gzip archive", _EXTRACT)),
    (b"BZh", FileKind("bzip2", "a bzip2 archive", _EXTRACT)),
    (b"\xfd7zXZ\0", FileKind("xz", "an xz archive", _EXTRACT)),
    (b"\x28\xb5\x2f\xfd", FileKind("zstd", "a Zstandard archive", _EXTRACT)),
    (b"7z\xbc\xaf\x27\x1c", FileKind("7z", "a 7-Zip archive", "extract it")),
    (b"Rar!\x1a\x07", FileKind("rar", "a RAR archive", "extract it")),
    (b"\x89HDF\r\n\x1a\n", FileKind("hdf5", "an HDF5 file")),
    (b"GGUF", FileKind("gguf", "a GGUF file")),
    (b"ftrt", _ENGINE),
    (b"ptrt", _ENGINE),
    (b"\x7fELF", FileKind("elf", "a program or library for Linux")),
    (b"\xcf\xfa\xed\xfe", FileKind("mach-o", "a program or library for macOS")),
    (b"MZ", FileKind("exe", "a program or library for Windows")),
    (b"\0\x05\x16\x07", FileKind("apple-double", "a macOS side file", "give the file without the leading ._")),
)
_BRANDS = {  # the major brand of an ISO base media file
    b"avif": _AVIF,
    b"avis": _AVIF,
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), _HEIC),
    **dict.fromkeys((b"M4A ", b"M4B "), _SOUND),
}


def kind_of(path: Path) -> FileKind | None:
    """The kind of a file by its first bytes. None if it is not known, or if the file cannot be read."""
    try:
        with path.open("rb") as file:
            return kind_of_bytes(file.read(_HEAD_BYTES), path.stat().st_size)
    except OSError:
        return None


def kind_of_bytes(head: bytes, size: int) -> FileKind | None:
    """The kind of a file by its bytes.

    Args:
        head: the first bytes of the file, up to 1024 of them.
        size: the size of the file in bytes.
    """
    if size == 0 or not head:
        return _EMPTY
    if _begins_as_safetensors(head):  # first: the length of its header can look like the first bytes of another kind
        return _SAFETENSORS
    for first, kind in _BY_FIRST_BYTES:
        if head.startswith(first):
            return kind
    if head[:4] == b"PK\x03\x04":
        return _zip_kind(head)
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], _MP4)
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _MP4
    if head[:4] == b"RIFF":
        return {b"WEBP": _WEBP, b"AVI ": _AVI, b"WAVE": _SOUND}.get(head[8:12])
    if head[257:262] == b"ustar":
        return _TAR
    if head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _PICKLE
    if not head.strip(b"\0"):
        return _ZEROS
    if head[0] == 8 and head[1:2] and 3 <= head[1] <= 20 and head[2:3] in (b"\x12", b"\x1a", b"\x3a", b"\x42"):
        return _ONNX  # protobuf: ir_version, then producer_name, producer_version, graph or opset_import
    return _text_kind(head)


def not_the_wanted_kind(path: Path, wanted: str, expected: Collection[str] = ()) -> str | None:
    """A sentence about a file of another kind than `wanted`. None if the kind of the file is not known.

    Args:
        path: the file.
        wanted: the file that was wanted, in plain English, such as "a latents file".
        expected: the names of kinds for which the result is None, because the file may be a damaged one of them.
    """
    kind = kind_of(path)
    if kind is None or kind.name in expected:
        return None
    return f"{path} is {kind.text}: {kind.cure or f'give {wanted}'}"


def _begins_as_safetensors(head: bytes) -> bool:
    return len(head) > 9 and head[8:9] == b"{" and 2 <= struct.unpack("<Q", head[:8])[0] <= _MOST_SAFETENSORS_HEADER


def _zip_kind(head: bytes) -> FileKind:
    name_bytes = int.from_bytes(head[26:28], "little")
    first_name = head[30 : 30 + name_bytes]
    if first_name.endswith((b"/data.pkl", b"/byteorder", b"/version", b"/.format_version")):
        return _TORCH_ZIP
    return _NPZ if first_name.endswith(b".npy") else _ZIP


def _text_kind(head: bytes) -> FileKind | None:
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, "replace").lstrip()
    beginning = text[:64].lower()
    if beginning.startswith("version https://git-lfs.github.com/spec/"):
        return _GIT_LFS
    if beginning.startswith("/annex/objects/"):
        return _GIT_ANNEX
    if beginning.startswith(("<!doctype html", "<html", "<head", "<body")):
        return _HTML
    if beginning.startswith(_ANSWERS) or (beginning.startswith("<?xml") and "<error>" in text.lower()):
        return _ANSWER
    if beginning.startswith("<?xml"):
        return _HTML if "<html" in text.lower() or "<!doctype html" in text.lower() else _XML
    if beginning.startswith(("{", "[")) and _is_text(text):
        return _JSON
    return _TEXT if text and _is_text(text) else None


def _is_text(text: str) -> bool:
    """Whether decoded text has no control characters and no bytes that did not decode, except at a cut end."""
    return (
        all(character.isprintable() or character in "\n\r\t\f" for character in text[:-1])
        and "\ufffd" not in (text[:-1])
    )
