#!/bin/sh
# The daemon of tests/reports.rs under the name of a program: one test of that file, which serves
# instead of testing. SCRIPTED_DAEMON is the path of the built tests.
exec "$SCRIPTED_DAEMON" scripted_daemon --exact --ignored --nocapture -- "$@"
