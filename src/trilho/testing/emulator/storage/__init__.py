"""Cloud Storage's JSON API over plain files, so that a bucket can be mounted as a folder."""

from trilho.testing.emulator.storage.routes import StorageService

__all__ = ["StorageService"]
