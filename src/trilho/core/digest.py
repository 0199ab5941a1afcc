"""Content digests: what names a file, a folder, a value. The runtime has them, since images name artifacts too."""

from __future__ import annotations

from trilho_runtime.steps.digest import digest_file, digest_folder, digest_json, digest_path, files_of

__all__ = ["digest_file", "digest_folder", "digest_json", "digest_path", "files_of"]
