# Guards one private Postgres: makes its folder, runs it, and removes both when the owner is gone.
#
# $1 the folder of initdb and postgres, $2 the lines of postgresql.conf, $3 the seconds a server may take to
# start, $4 the seconds it may take to end before it is ended by force.
# stdin:  orders, one a line: crash, recover, stop. Its end means that the owner is gone, however it went.
# stdout: one line for each thing done: folder PATH, created, ready, crashed, or failed.

# Only the pipe ends this script: not Ctrl-C, not a closed terminal, and not an owner who stopped reading.
trap '' HUP INT TERM PIPE
exec 2>&1
umask 077
bin=$1
start_s=$3
end_s=$4
server=
folder=$(mktemp -d /tmp/rowcrew-XXXXXX) && cd "$folder" || exit 1
export HOME="$folder"
echo "folder $folder"

create() {
    "$bin/initdb" -D data -U postgres -A trust -E UTF8 --locale=C --no-sync >>log 2>&1 &&
        printf "%s\nunix_socket_directories = '%s'\n" "$1" "$folder" >>data/postgresql.conf
}

# The server is this script's child and not pg_ctl's, so that one which hangs before it has written its pid
# file can be ended too.
start() {
    "$bin/postgres" -D data </dev/null >>log 2>&1 &
    server=$!
    within "$start_s" ready_or_gone && ! gone
}
# A server ended by force leaves its file, so the pid in it counts too.
ready_or_gone() {
    { grep -q '^ready' data/postmaster.pid && grep -qx "$server" data/postmaster.pid; } 2>/dev/null || gone
}
gone() { ! kill -0 "$server" 2>/dev/null; }

# Ends the server with signal $1, which makes it fast (INT) or immediate (QUIT).
end() {
    [ -n "$server" ] || return 0
    kill "-$1" "$server" 2>/dev/null
    within "$end_s" gone || kill -KILL "$server"
    wait "$server"
    server=
}

# Waits for command $2, at most $1 seconds.
within() {
    left=$(($1 * 50))
    until "$2"; do
        [ "$left" -gt 0 ] || return 1
        left=$((left - 1))
        sleep 0.02
    done
}

if create "$2"; then
    echo created
    if start; then echo ready; else echo failed; fi
else
    echo failed
fi

while read -r order; do
    case $order in
        crash) end QUIT; echo crashed ;;
        recover) end QUIT; if start; then echo ready; else echo failed; fi ;;
        stop) end INT ;;
    esac
done
end QUIT

# What a killed server leaves running ends by itself, but may still write for a moment.
cd / && { rm -rf "$folder" || { sleep 1 && rm -rf "$folder"; }; }
