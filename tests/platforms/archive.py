"""Packs a folder as a release has it: the same bytes for the same content, whoever packs it, wherever and when.

    python tests/platforms/archive.py FOLDER ARCHIVE      ARCHIVE ends in .tar.gz or .zip

Times are SOURCE_DATE_EPOCH, else 1980, as early as a zip can say. Links stay links in a .tar.gz; a .zip has none.
"""

import gzip
import os
import sys
import tarfile
import time
import zipfile
from pathlib import Path

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "315532800"))


def main(folder, archive):
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    names = {path: path.relative_to(folder.parent).as_posix() for path in paths}
    pack = pack_zip if archive.suffix == ".zip" else pack_tar
    pack(archive, names)


def pack_tar(archive, names):
    with archive.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for path, name in names.items():
            entry = tar.gettarinfo(path, name)
            entry.mtime, entry.mode = EPOCH, 0o755 if is_program(path) else 0o644
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            if entry.isfile():
                with path.open("rb") as content:
                    tar.addfile(entry, content)
            else:
                tar.addfile(entry)


def pack_zip(archive, names):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for path, name in names.items():
            entry = zipfile.ZipInfo(name, time.gmtime(EPOCH)[:6])
            entry.external_attr = (0o100755 if is_program(path) else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, path.read_bytes())


def is_program(path):
    return os.access(path, os.X_OK) and not path.is_symlink()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
