#!/usr/bin/python3
"""A file system in memory that forgets what wasn't synced when the power is cut: for power_cut_test.py.

    power_cut_fs.py DIRECTORY SEED

Bytes are durable by a sync of their file, names by a sync of their directory, nothing else. `mkdir .cut` cuts the power:
of each block and each name not synced chance keeps it, loses it or (blocks) keeps its first sectors; from then on
everything fails, also by what was open before, until `rmdir .cut`. From `mkdir .lie` on syncs of files do nothing, so
that a test can see that it would notice."""
import errno
import os
import random
import stat
import sys
import time

from fusepy import FUSE, FuseOSError, Operations

BLOCK, SECTOR = 4096, 512
ZEROS = bytes(BLOCK)
TOTAL_BLOCKS = 48 << 20 >> 12 # small, so that segments are


class Inode:
    def __init__(self, mode):
        self.mode, self.uid, self.gid, self.mtime = mode, os.getuid(), os.getgid(), time.time()
        self.size, self.blocks, self.dirty = 0, {}, set()
        self.durable_size, self.durable_blocks = 0, {}

    def write(self, data, offset):
        at = 0
        while at < len(data):
            number, begin = divmod(offset + at, BLOCK)
            part = data[at:at + BLOCK - begin]
            if len(part) < BLOCK:
                old = self.blocks.get(number, ZEROS)
                part_len = len(part)
                part = old[:begin] + part + old[begin + part_len:]
                at += part_len
            else:
                at += BLOCK
            self.blocks[number] = ZEROS if part == ZEROS else bytes(part)
            self.dirty.add(number)
        self.size = max(self.size, offset + len(data))

    def read(self, size, offset):
        size = max(0, min(size, self.size - offset))
        first, begin = divmod(offset, BLOCK)
        count = (begin + size + BLOCK - 1) // BLOCK
        return b"".join(self.blocks.get(first + i, ZEROS) for i in range(count))[begin:begin + size]

    def truncate(self, size):
        number, rest = divmod(size, BLOCK)
        for gone in [n for n in self.blocks if n > number or (n == number and rest == 0)]:
            del self.blocks[gone]
            self.dirty.add(gone)
        if rest and number in self.blocks:
            self.blocks[number] = self.blocks[number][:rest] + ZEROS[rest:]
            self.dirty.add(number)
        self.size = size

    def sync(self):
        for number in self.dirty:
            if number in self.blocks:
                self.durable_blocks[number] = self.blocks[number]
            else:
                self.durable_blocks.pop(number, None)
        self.durable_size = self.size
        self.dirty.clear()

    def cut(self, chance):
        for number in self.dirty:
            new, old = self.blocks.get(number, ZEROS), self.durable_blocks.get(number, ZEROS)
            keep = chance.choice((0, 0, chance.randrange(BLOCK // SECTOR), BLOCK // SECTOR)) * SECTOR
            self.durable_blocks[number] = new[:keep] + old[keep:]
        if self.dirty and chance.random() < 0.5:
            self.durable_size = self.size
        self.size, self.blocks = self.durable_size, dict(self.durable_blocks)
        self.dirty.clear()


class PowerCut(Operations):
    def __init__(self, seed):
        self.chance, self.lies = random.Random(seed), False
        root = Inode(stat.S_IFDIR | 0o777)
        self.live, self.durable = {"/": root}, {"/": root}
        self.handles, self.next_handle, self.dead = {}, 1, False

    def powered(self):
        if self.dead:
            raise FuseOSError(errno.EIO)

    def inode(self, path):
        self.powered()
        if path not in self.live:
            raise FuseOSError(errno.ENOENT)
        return self.live[path]

    def opened(self, handle):
        if handle not in self.handles: # of the time before the cut
            raise FuseOSError(errno.EIO)
        self.powered()
        return self.handles[handle]

    def handle(self, inode):
        self.handles[self.next_handle] = inode
        self.next_handle += 1
        return self.next_handle - 1

    # --- the power

    def cut(self):
        self.dead, self.handles = True, {}
        for path in sorted(set(self.live) | set(self.durable)):
            if self.live.get(path) is not self.durable.get(path) and self.chance.random() < 0.5:
                if path in self.live:
                    self.durable[path] = self.live[path]
                else:
                    del self.durable[path]
        # What lies in a directory whose own name is lost is lost.
        for path in sorted(self.durable):
            if path != "/" and os.path.dirname(path) not in self.durable:
                del self.durable[path]
        for inode in set(self.durable.values()):
            inode.cut(self.chance)
        self.live = dict(self.durable)

    # --- names

    def mkdir(self, path, mode):
        if path == "/.cut":
            self.cut()
            return
        if path == "/.lie":
            self.lies = True
            return
        self.inode(os.path.dirname(path))
        if path in self.live:
            raise FuseOSError(errno.EEXIST)
        self.live[path] = Inode(stat.S_IFDIR | mode)

    def rmdir(self, path):
        if path == "/.cut":
            self.dead = False
            return
        self.inode(path)
        del self.live[path]

    def create(self, path, mode, fi=None):
        self.inode(os.path.dirname(path))
        self.live[path] = Inode(stat.S_IFREG | mode)
        return self.handle(self.live[path])

    def unlink(self, path):
        self.inode(path)
        del self.live[path]

    def rename(self, old, new):
        inode = self.inode(old)
        for path in [p for p in self.live if p == old or p.startswith(old + "/")]:
            self.live[new + path[len(old):]] = self.live.pop(path)
        self.live[new] = inode

    def readdir(self, path, fh):
        self.inode(path)
        names = [os.path.basename(p) for p in self.live if p != "/" and os.path.dirname(p) == path]
        return [".", "..", *names]

    def fsyncdir(self, path, datasync, fh):
        self.inode(path)
        for name in [p for p in self.durable if p != "/" and os.path.dirname(p) == path and p not in self.live]:
            del self.durable[name]
        for name, inode in self.live.items():
            if name != "/" and os.path.dirname(name) == path:
                self.durable[name] = inode

    # --- bytes

    def getattr(self, path, fh=None):
        if path in ("/.cut", "/.lie"):
            if self.dead if path == "/.cut" else self.lies:
                return {"st_mode": stat.S_IFDIR | 0o777, "st_nlink": 1}
            raise FuseOSError(errno.ENOENT)
        inode = self.live["/"] if path == "/" else self.inode(path)
        return {"st_mode": inode.mode, "st_nlink": 1, "st_size": inode.size, "st_uid": inode.uid, "st_gid": inode.gid,
                "st_blocks": len(inode.blocks) * 8, "st_mtime": inode.mtime, "st_atime": inode.mtime,
                "st_ctime": inode.mtime}

    def chmod(self, path, mode):
        inode = self.inode(path)
        inode.mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(mode)

    def chown(self, path, uid, gid):
        inode = self.inode(path)
        inode.uid, inode.gid = uid, gid

    def utimens(self, path, times=None):
        self.inode(path)

    def open(self, path, flags):
        return self.handle(self.inode(path))

    def opendir(self, path):
        return self.handle(self.inode(path))

    def release(self, path, fh):
        self.handles.pop(fh, None)

    releasedir = release

    def read(self, path, size, offset, fh):
        return self.opened(fh).read(size, offset)

    def write(self, path, data, offset, fh):
        self.opened(fh).write(data, offset)
        return len(data)

    def truncate(self, path, length, fh=None):
        (self.opened(fh) if fh else self.inode(path)).truncate(length)

    def flush(self, path, fh):
        return 0

    def fsync(self, path, datasync, fh):
        inode = self.opened(fh)
        if not self.lies:
            inode.sync()

    def statfs(self, path):
        used = sum(len(inode.blocks) for inode in set(self.live.values()))
        free = max(0, TOTAL_BLOCKS - used)
        return {"f_bsize": BLOCK, "f_frsize": BLOCK, "f_blocks": TOTAL_BLOCKS, "f_bfree": free, "f_bavail": free,
                "f_files": 100000, "f_ffree": 100000, "f_namemax": 255}


def main():
    FUSE(PowerCut(int(sys.argv[2])), sys.argv[1], foreground=True, nothreads=True, big_writes=True,
         max_write=131072, allow_other=True, attr_timeout=0, entry_timeout=0, negative_timeout=0, use_ino=False)


main()
