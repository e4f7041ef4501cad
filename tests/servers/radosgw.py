"""A real S3 server on loopback: Ceph with one monitor, one store in memory, and radosgw."""

from __future__ import annotations

import os
import time
import uuid

from tests.servers.processes import Processes, free_port, need

__all__ = ["KEY", "SECRET", "start"]

KEY, SECRET = "test", "testtest12"

PACKAGES = "radosgw ceph-mon ceph-osd ceph-mgr ceph-common"

CONF = """
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon}/0
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv4 = true
auth cluster required = none
auth service required = none
auth client required = none
auth supported = none
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
osd pool default pg num = 1
osd pool default pgp num = 1
mon max pg per osd = 1000
run dir = {folder}/run
admin socket = {folder}/run/$name.$pid.asok
log file = {folder}/log/$name.log
crash dir = {folder}/crash
[mon]
mon data = {folder}/mon
mon data avail crit = 1
paxos propose interval = 0.05
paxos min wait = 0.01
mon cluster log file = {folder}/log/cluster.log
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
[client]
ms mon client mode = crc
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw data = {folder}/rgw
rgw run sync thread = false
rgw enable usage log = false
rgw enable ops log = false
rgw gc max objs = 1
rgw lc max objs = 1
rgw thread pool size = 128
"""


def start() -> tuple[Processes, str]:
    """Running processes and the endpoint. 3 to 5 s, some 200 MB of memory.

    :raises NotStarted: if the programs are not installed.
    """
    need(
        ["radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "monmaptool"],
        f"apt-get install {PACKAGES}",
    )
    processes = Processes("rgw")
    try:
        return processes, _start(processes)
    except BaseException:
        processes.stop()
        raise


def _start(processes: Processes) -> str:
    folder, fsid, osd = processes.folder, str(uuid.uuid4()), str(uuid.uuid4())
    mon, port = free_port(), free_port()
    for name in ("mon", "osd", "rgw", "run", "log", "crash"):
        (folder / name).mkdir()
    conf = folder / "ceph.conf"
    conf.write_text(CONF.format(fsid=fsid, mon=mon, port=port, folder=folder))
    user = ["--setuser", "root", "--setgroup", "root"] if os.getuid() == 0 else []
    c = ("-c", str(conf))
    monmap = str(folder / "monmap")
    processes.run(
        "monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon}]", monmap
    )
    processes.run("ceph-mon", *c, "--mkfs", "-i", "a", "--monmap", monmap)
    processes.start("ceph-mon", *c, "-i", "a", *user, "-f")
    processes.wait_for(mon)
    processes.run("ceph", *c, "--connect-timeout", "20", "osd", "new", osd)
    processes.run("ceph-osd", *c, "-i", "0", "--mkfs", "--osd-uuid", osd)
    crush = ("osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost")
    processes.run("ceph", *c, *crush)
    processes.start("ceph-osd", *c, "-i", "0", *user, "-f")
    processes.start("radosgw", *c, "-n", "client.rgw", *user, "-f")
    processes.wait_for(port)
    keys = ("--access-key", KEY, "--secret-key", SECRET)
    who = ("--uid=t", "--display-name=t")
    for tries in range(5):
        try:
            processes.run("radosgw-admin", *c, "user", "create", *who, *keys)
            break
        except AssertionError:
            if tries == 4:
                raise
            time.sleep(0.5)
    return f"http://127.0.0.1:{port}"
