#!/usr/bin/env python3
"""A writer that promises too much: SQLite with synchronous=NORMAL says "committed" before the disk has it."""

import os
import sqlite3
import sys


def write(folder):
    db = sqlite3.connect(f"{folder}/control.db", isolation_level=None)
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = normal")
    db.execute("create table if not exists promise (id integer primary key, body blob)")
    (number,) = db.execute("select coalesce(max(id), 0) from promise").fetchone()
    while True:
        number += 1
        db.execute("insert into promise values (?, ?)", (number, os.urandom(200)))
        os.write(1, f"{number}\n".encode())


def verify(folder, ledger):
    with open(ledger) as book:
        promised = {int(line) for line in book}
    db = sqlite3.connect(f"{folder}/control.db")
    whole = db.execute("pragma integrity_check").fetchone()[0] == "ok"
    made = db.execute("select count(*) from sqlite_master where name = 'promise'").fetchone()[0]
    kept = {n for (n,) in db.execute("select id from promise")} if made else set()
    print("lost", len(promised - kept))
    print("corrupt", int(not whole))


if __name__ == "__main__":
    {"write": write, "verify": verify}[sys.argv[1]](*sys.argv[2:])
