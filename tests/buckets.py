"""A bucket that stands in for an object store: a folder of this machine, behind fsspec's protocol.

It has no renaming, counts what it is asked, and fails as it is told to.
"""

import os
import shutil
from collections import Counter, defaultdict
from typing import ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

ROOT = "PERMAFROST_TEST_BUCKET"  # the folder; by the environment, so that child processes share it
CUT = "cut short"  # a fault of `put_file`: half of the bytes arrive, and nothing is said


class BucketFileSystem(LocalFileSystem):
    """testbucket://NAME is the folder NAME of the root."""

    protocol = "testbucket"
    calls: ClassVar[Counter[str]] = Counter()
    # by method, what its next calls raise; None: works
    faults: ClassVar[dict[str, list]] = defaultdict(list)

    @classmethod
    def _strip_protocol(cls, path):
        path = os.fspath(path)
        if path.startswith("testbucket://"):
            path = os.path.join(os.environ[ROOT], path.removeprefix("testbucket://"))
        return path.rstrip("/")

    def ls(self, path, detail=False, **options):
        self.met("ls")
        return super().ls(path, detail=detail, **options)

    def info(self, path, **options):
        self.calls["info"] += 1
        return super().info(path, **options)

    def cat_file(self, path, start=None, end=None, **options):
        self.met("cat_file")
        return super().cat_file(path, start=start, end=end, **options)

    def get_file(self, rpath, lpath, **options):
        self.met("get_file")
        return super().get_file(rpath, lpath, **options)

    def put_file(self, lpath, rpath, **options):
        fault = self.met("put_file")
        os.makedirs(os.path.dirname(rpath), exist_ok=True)
        if fault != CUT:
            shutil.copyfile(lpath, rpath)
            return
        with open(lpath, "rb") as source, open(rpath, "wb") as target:
            target.write(source.read(os.path.getsize(lpath) // 2))

    def rm_file(self, path):
        self.met("rm_file")
        return super().rm_file(path)

    def mv(self, path1, path2, **options):
        raise NotImplementedError("an object store renames nothing")

    mv_file = mv

    def met(self, method):
        """Count a call, and raise what it is to fail with."""
        self.calls[method] += 1
        fault = self.faults[method].pop(0) if self.faults[method] else None
        if isinstance(fault, Exception):
            raise fault
        return fault


class Bucket:
    """The bucket of a test: `url` names it, `folder` is where its objects lie."""

    def __init__(self, folder):
        self.folder = folder
        self.url = "testbucket://bucket"
        self.calls = BucketFileSystem.calls
        self.calls.clear()
        BucketFileSystem.faults.clear()
        register()

    def fail(self, method, *faults):
        """Have the next calls of a method raise, or do as None and CUT say."""
        BucketFileSystem.faults[method] = list(faults)


def register():
    """Make the protocol known to fsspec, in this process."""
    fsspec.register_implementation("testbucket", BucketFileSystem, clobber=True)
