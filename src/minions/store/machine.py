"""What the store must know of the machine: its boot, and its file systems."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from minions.errors import StoreError

__all__ = ["boot_id", "file_system_of", "is_network", "refuse_network"]

_MOUNTS = Path("/proc/mounts")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# Neither memory maps nor locks can be relied on across machines.
_NETWORK = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.cephfs",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "smb2",
        "smb3",
        "smbfs",
    }
)


def boot_id() -> str:
    """Name this boot of the machine; empty if the machine does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        if sys.platform != "darwin":
            return ""
    asked = subprocess.run(
        ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip()


def file_system_of(path: Path, mounts: Path = _MOUNTS) -> str:
    """Name the type of the file system that holds *path*; empty if unknown."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    best, found = -1, ""
    text = os.fspath(path)
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        point = point.replace("\\040", " ").rstrip("/")
        if (text == point or text.startswith(point + "/")) and len(point) >= best:
            best, found = len(point), kind
    return found


def is_network(kind: str) -> bool:
    """Say whether a file system of this type lies on another machine."""
    return kind in _NETWORK


def refuse_network(path: Path) -> None:
    """Refuse a folder on another machine.

    Raises:
        StoreError: It is on one.
    """
    kind = file_system_of(path)
    if is_network(kind):
        raise StoreError(
            f"{path}: expected a local disk, found a network file system ({kind}),"
            " on which locks and memory maps cannot be relied on; use a local"
            " folder, or pass allow_network=True"
        )
