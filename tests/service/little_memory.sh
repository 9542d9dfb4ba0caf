#!/bin/sh
# A program that may have $KILOBYTES of memory of its own. Mapped files do not count against this
# limit, as they do not against a container's: the system takes their pages away.
ulimit -d "$KILOBYTES" && exec "$PROGRAM" "$@"
