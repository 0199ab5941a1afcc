"""Importing a package's own code: a module runs only from bytes whose digest the manifest lists.

The folder was checked when it was opened; here each source file is checked again as it is read, so that nothing can be
put there in between. No bytecode is read from the folder, and none is written to it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path
from typing import Any

from trilho_runtime.model.manifest import CODE, read_listed

_hooks: dict[str, Callable[[str], Any]] = {}


def use_code(folder: Path, listed: Mapping[str, Any]) -> Path:
    """Make the code of a package importable in this process, before any other of the same name; give its folder.

    No bytecode is written from here on, since it would lie in the package and break its digest.
    """
    sys.dont_write_bytecode = True
    code = (folder / CODE).resolve()
    hook = _checked_hook(code, listed)
    if (earlier := _hooks.pop(str(code), None)) is not None:
        sys.path_hooks.remove(earlier)
    _hooks[str(code)] = hook
    sys.path_hooks.insert(0, hook)
    for place in [place for place in sys.path_importer_cache if Path(place) == code or code in Path(place).parents]:
        del sys.path_importer_cache[place]
    sys.path[:] = [str(code), *(place for place in sys.path if place != str(code))]
    return code


def _checked_hook(code: Path, listed: Mapping[str, Any]) -> Callable[[str], Any]:
    """Give a path hook for the folders of a package's code; it leaves all others to Python's own."""

    def name_of(path: str) -> str:
        return f"{CODE}/{Path(path).relative_to(code).as_posix()}"

    class Source(SourceFileLoader):
        def get_data(self, path: str) -> bytes:
            if name_of(path) not in listed:
                raise OSError(f"{path} is not in the manifest")
            return read_listed(code.parent, name_of(path), listed)

    class Extension(ExtensionFileLoader):
        def create_module(self, spec: Any) -> Any:
            read_listed(code.parent, name_of(self.path), listed)
            return super().create_module(spec)

    def hook(path: str) -> FileFinder:
        place = Path(path)
        if place != code and code not in place.parents:
            raise ImportError
        return FileFinder(path, (Extension, EXTENSION_SUFFIXES), (Source, SOURCE_SUFFIXES))

    return hook
