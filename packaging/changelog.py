"""Prints Debian's changelog from CHANGELOG.md: its newest section, at the time SOURCE_DATE_EPOCH."""

import email.utils
import os
import sys
import textwrap

path, version = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    newest = file.read().split("\n## ")[1]
points = [" ".join(point.split()) for point in ("\n" + newest).split("\n- ")[1:]]
if not points:
    sys.exit(f"{path}: the newest section has no points")

print(f"enos-edge ({version}) stable; urgency=medium\n")
for point in points:
    print(textwrap.fill(point, 78, initial_indent="  * ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))
date = email.utils.formatdate(int(os.environ["SOURCE_DATE_EPOCH"]))
print(f"\n -- The enos-edge authors <enos-edge@users.noreply.github.com>  {date.replace('-0000', '+0000')}")
