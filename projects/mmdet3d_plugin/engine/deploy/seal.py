"""Whether a graph is still what was exported: a digest of its bytes, the last entry of its metadata."""

import hashlib
import json
from pathlib import Path

from projects.mmdet3d_plugin.common.errors import UserError

SEAL = 'sha256'
"""Key of the digest among the metadata."""


def sealed(graph: bytes) -> bytes:
    """A serialised ``onnx.ModelProto`` with the digest of its bytes behind it.

    Fields that follow a message of protocol buffers belong to it, so that every reader of ONNX finds one entry more among
    the metadata.
    """
    return graph + _entry(graph)


def require_seal(path: str | Path) -> None:
    """Refuse a sealed graph of which a byte has changed.

    Raises:
        UserError: names the file.
    """
    content = memoryview(Path(path).read_bytes())
    end = len(content) - len(_entry(b''))
    if content[end:] != _entry(content[:end]):
        raise UserError(
            f'{path} is not as tools/export_onnx.py wrote it: copy it or export it again; if it was changed on purpose, '
            f'take {SEAL} out of its metadata'
        )


def _entry(graph: bytes | memoryview) -> bytes:
    """``metadata_props`` (field 14 of ModelProto), one entry of key (field 1) and value (field 2); no length reaches 128."""
    key, value = SEAL.encode(), json.dumps(hashlib.sha256(graph).hexdigest()).encode()
    entry = bytes([0x0A, len(key), *key, 0x12, len(value), *value])
    return bytes([0x72, len(entry)]) + entry
